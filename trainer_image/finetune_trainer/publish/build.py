"""Builds the folder that would be uploaded, checks that it is what was trained, and measures it.

The one stage of publishing that needs torch.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import torch

from finetune_api.objective import judge_of
from finetune_api.served import SERVED_CHECK
from finetune_artifacts import Store
from finetune_trainer.common import log
from finetune_trainer.common.clock import timestamp
from finetune_trainer.common.files import write_atomic
from finetune_trainer.common.models import fetch_teacher
from finetune_trainer.data.dataset import load_splits, report
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.engine.model import computed_type, load_base, load_tokenizer, pad_id
from finetune_trainer.engine.rows import held_out_rows
from finetune_trainer.engine.scorer import HEAD
from finetune_trainer.objectives.judge import Judge, load_judge
from finetune_trainer.publish import check, export
from finetune_trainer.publish.cache import write_metrics
from finetune_trainer.publish.divergence import taught_by
from finetune_trainer.publish.kind import ADAPTER, MERGED, WRITES_NOTHING
from finetune_trainer.publish.measure import Measure
from finetune_trainer.publish.reference import make_reference
from finetune_trainer.publish.session import Session
from finetune_trainer.publish.threads import choose_threads, usable_cpus


def build(session: Session, run: Store, kind: str, base: Path, checkpoint: Path, key: str, *, evaluate: bool) -> None:
    """The exported folder, checked; with `evaluate` its metrics and the base's are measured and cached."""
    spec, folder = session.config.spec, session.volume.model
    parameters = sum(tensor.elements for tensor in export.stored_types(base).values())
    threads = choose_threads(parameters, environment=os.environ.get("OMP_NUM_THREADS"), cpus=usable_cpus())
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = computed_type(spec, device)
    data = fetch_data(session.config, session.places.data, _ignore)
    tokenizer = load_tokenizer(base)
    splits = load_splits(session.config, data, tokenizer)
    report(splits.counts)

    session.enter("Exporting")
    trained = export.trained_model(spec, base, checkpoint, device)
    probes = check.probe_ids([splits.validation, splits.train])
    expected = check.reference(trained, probes, device)
    final = export.combine(trained, spec)
    del trained
    if kind in (MERGED, *WRITES_NOTHING):
        log.event("merged", equivalence=check.require_equivalence(final, expected, device, "the merged one"))
    if kind != ADAPTER:
        export.round_to_stored(final, base)
        log.event("rounded to the base's types", kl=check.divergence(final, expected, device))
        expected = check.reference(final, probes, device)
    export.write(final, spec, base, folder)
    del final
    _free()

    session.enter("Checking")
    if kind != ADAPTER:
        new = (f"{HEAD}.weight",) if kind in WRITES_NOTHING else ("lm_head.weight",)
        check.require_same_layout(export.stored_types(base), export.stored_types(folder), new=new)
    exported: Any = check.load_exported(spec, base, folder, kind, torch.float32, device)
    words = check.require_equivalence(exported, expected, device, "the exported folder")
    log.event("exported", kind=kind, equivalence=words)
    if kind not in (ADAPTER, *WRITES_NOTHING):
        _leave_reference(exported, tokenizer, device, folder)
    if not evaluate:
        return

    session.enter("Evaluating")
    measure = Measure(
        spec,
        held_out_rows(spec, splits.validation),
        tokenizer,
        pad_id(tokenizer),
        device,
        session.progress(),
        distill=taught_by(session.config, session.places.teacher, exported, device, splits.validation)
        if splits.validation
        else None,
        judge=_judge(session, device) if splits.validation else None,
    )
    last = measure.model(exported.to(dtype), "final")
    del exported
    _free()
    # A base has no scores, and no labels.
    first = {} if kind in WRITES_NOTHING else measure.model(load_base(base, dtype).to(device).eval(), "base")
    _free()
    session.metrics = measure.combine(first, last)
    for name, value in session.metrics.items():
        log.event("metric", name=name, base=value.base, final=value.final, samples=value.samples)
    write_metrics(run, key, session.metrics, timestamp())


def _judge(session: Session, device: torch.device) -> Judge | None:
    """The reward model that the run learned from."""
    if judge_of(session.config.spec) is None:
        return None
    fetch_teacher(session.config, session.places.teacher, _ignore)
    return load_judge(session.config.spec, session.places.teacher, device)


def _leave_reference(model: Any, tokenizer: Any, device: torch.device, folder: Path) -> None:
    """Published with the model: the serving image is asked the same, now and before each rollout."""
    made = make_reference(model, tokenizer, device, pad_id=pad_id(tokenizer))
    write_atomic(folder / SERVED_CHECK, made.model_dump_json(by_alias=True, exclude_none=True).encode())
    tokens = sum(len(prompt.token_ids) for prompt in made.prompts)
    log.event("reference for the served check", prompts=len(made.prompts), tokens=tokens)


def _ignore(_bytes: int) -> None:
    """Nobody judges hangs of a publish pod by its downloads; the kubelet's deadline does."""


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
