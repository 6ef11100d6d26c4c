"""Publish: from the last checkpoint to a model that others may trust, or to the reason why not.

    find checkpoint → fetch base and data → build → export → check the folder → evaluate → gate → upload, manifest last

Every stage can be repeated, so a publish pod may be killed at any moment. A cached evaluation that fails the gate ends
the pod before anything is built; one that passes skips straight to building and uploading.
"""

from __future__ import annotations

import gc
import json
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import OnGateFailure, Precision
from finetune_api.layout import GATE
from finetune_api.manifests import CheckpointManifest, GateResult, MetricValue
from finetune_api.reports import PublishedModel, PublishReport
from finetune_api.runconfig import RunConfig
from finetune_artifacts import Store
from finetune_trainer.checkpoint.fences import list_fences
from finetune_trainer.checkpoint.find import newest_valid
from finetune_trainer.common import log
from finetune_trainer.common.clock import monotonic, timestamp
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.lastwords import write_termination
from finetune_trainer.common.models import fetch_model
from finetune_trainer.common.places import Places
from finetune_trainer.common.stores import open_checkpoints, open_for, open_run
from finetune_trainer.model.published import read_manifest
from finetune_trainer.publish.cache import cache_key, read_metrics, write_metrics
from finetune_trainer.publish.gate import evaluate_gate, in_words, passed
from finetune_trainer.publish.kind import ADAPTER, MERGED, kind_of
from finetune_trainer.publish.threads import choose_threads, usable_cpus
from finetune_trainer.publish.upload import refuse_taken, upload

_PROGRESS_EVERY = 5.0


def publish(config: RunConfig) -> int:
    """The exit code: 0, 64, 66, 70, 71, 72, 73, 74, 75 or 76."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if config.run_key is None:
        raise RunError(ExitCode.INVALID_SPEC, "the run config has no runKey; publish needs the one preflight found")
    work = _Publish(config, Places.here())
    try:
        report = work.run()
    except Exception as error:
        report = work.failed(error)
        log.error(report.message, reason=report.reason, exit_code=report.exit_code, stage=report.stage)
    write_termination(report)
    return report.exit_code


@dataclass
class _Publish:
    config: RunConfig
    places: Places
    stage: str = "Starting"
    metrics: dict[str, MetricValue] = field(default_factory=dict)
    gate: list[GateResult] = field(default_factory=list)

    def run(self) -> PublishReport:
        config, spec = self.config, self.config.spec
        kind = kind_of(spec)
        self._enter("Claiming")
        output = open_for(config, config.output_uri, config.output_secret)
        already = refuse_taken(output, config)
        if already is not None:
            return self._already(output, already)
        run = open_run(config)
        self._enter("Fetching")
        checkpoint, checkpoint_folder = self._checkpoint(run)
        key = cache_key(spec, checkpoint.trainable_digest, kind)
        cached = read_metrics(run, key)
        if cached is not None:
            log.event("evaluation taken from an earlier try", key=key)
            self.metrics = cached
            if not self._gate_passes(run):
                return self._blocked()
        base = fetch_model(config, self.places.model, _ignore)
        folder = self._build(run, kind, base, checkpoint_folder, key, evaluate=cached is None)
        if cached is None and not self._gate_passes(run):
            return self._blocked()
        self._enter("Uploading")
        return self._upload(output, folder, kind, checkpoint)

    def failed(self, error: Exception) -> PublishReport:
        from finetune_trainer.engine.failures import classify

        failure = classify(error, started=True)
        bug = failure.code is ExitCode.FAILED and not isinstance(error, RunError)
        return self._report(
            failure.code,
            failure.reason,
            failure.message,
            traceback="".join(traceback.format_exception(error)) if bug else None,
        )

    def _checkpoint(self, run: Store) -> tuple[CheckpointManifest, Path]:
        found = newest_valid(open_checkpoints(self.config), list_fences(run), self.places.resume)
        where = self.config.checkpoints_uri
        if found is None:
            raise RunError(ExitCode.NO_CHECKPOINT, f"no valid checkpoint at {where}; there is nothing to publish")
        manifest = found.manifest
        if manifest.step < manifest.total_steps:
            raise RunError(
                ExitCode.NO_CHECKPOINT,
                f"the newest valid checkpoint at {where} is of step {manifest.step}, training ends at step "
                f"{manifest.total_steps}: the final checkpoint is missing or damaged",
            )
        log.event("checkpoint found", step=manifest.step, attempt=manifest.attempt, digest=manifest.trainable_digest)
        return manifest, found.folder

    def _build(self, run: Store, kind: str, base: Path, checkpoint: Path, key: str, *, evaluate: bool) -> Path:
        """The exported folder, checked; with `evaluate` its metrics and the base's are measured and cached."""
        import torch

        from finetune_trainer.data.dataset import load_splits, report
        from finetune_trainer.data.fetch import fetch_data
        from finetune_trainer.engine.model import load_base, load_tokenizer, pad_id
        from finetune_trainer.publish import check, export
        from finetune_trainer.publish.measure import Measure

        spec = self.config.spec
        parameters = sum(tensor.elements for tensor in export.stored_types(base).values())
        threads = choose_threads(parameters, environment=os.environ.get("OMP_NUM_THREADS"), cpus=usable_cpus())
        torch.set_num_threads(threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        half = device.type == "cuda" and spec.training.precision is Precision.BF16
        dtype = torch.bfloat16 if half else torch.float32
        data = fetch_data(self.config, self.places.data, _ignore)
        tokenizer = load_tokenizer(base)
        splits = load_splits(self.config, data, tokenizer)
        report(splits.counts)

        self._enter("Exporting")
        folder = self.places.scratch / "publish" / "model"
        trained = export.trained_model(spec, base, checkpoint, device)
        probes = check.probe_ids([splits.validation, splits.train])
        expected = check.reference(trained, probes, device)
        final = export.combine(trained, spec)
        del trained
        if kind == MERGED:
            log.event("merged", equivalence=check.require_equivalence(final, expected, device, "the merged one"))
        if kind != ADAPTER:
            export.round_to_stored(final, base)
            log.event("rounded to the base's types", kl=check.divergence(final, expected, device))
            expected = check.reference(final, probes, device)
        export.write(final, spec, base, folder)
        del final
        _free()

        self._enter("Checking")
        if kind != ADAPTER:
            check.require_same_layout(export.stored_types(base), export.stored_types(folder))
        exported: Any = check.load_exported(base, folder, kind, torch.float32, device)
        words = check.require_equivalence(exported, expected, device, "the exported folder")
        log.event("exported", kind=kind, equivalence=words)
        if not evaluate:
            return folder

        self._enter("Evaluating")
        measure = Measure(spec, splits.validation, tokenizer, pad_id(tokenizer), device, self._progress)
        last = measure.model(exported.to(dtype), "final")
        del exported
        _free()
        first = measure.model(load_base(base, dtype).to(device).eval(), "base")
        _free()
        self.metrics = measure.combine(first, last)
        for name, value in self.metrics.items():
            log.event("metric", name=name, base=value.base, final=value.final, samples=value.samples)
        write_metrics(run, key, self.metrics, timestamp())
        return folder

    def _gate_passes(self, run: Store) -> bool:
        """Also with a failed gate, when it only warns. Leaves gate.json in the run directory."""
        self._enter("Gate")
        evaluation = self.config.spec.evaluation
        self.gate = evaluate_gate(evaluation.gate, self.metrics)
        good = passed(self.gate)
        document = {
            "format": 1,
            "passed": good,
            "onGateFailure": evaluation.on_gate_failure.value,
            "results": [result.to_wire() for result in self.gate],
            "at": timestamp(),
        }
        run.put_bytes(GATE, json.dumps(document).encode())
        for result in self.gate:
            log.event("gate", passed=result.passed, result=result.message)
        return good or evaluation.on_gate_failure is OnGateFailure.WARN

    def _blocked(self) -> PublishReport:
        message = f"gate failed: {in_words(self.gate)}"
        log.error(message, exit_code=int(ExitCode.GATE_FAILED))
        return self._report(ExitCode.GATE_FAILED, "GateFailed", message, gate_passed=False)

    def _upload(self, output: Store, folder: Path, kind: str, checkpoint: CheckpointManifest) -> PublishReport:
        good = passed(self.gate)
        model = upload(
            output,
            folder,
            config=self.config,
            kind=kind,
            checkpoint=checkpoint,
            metrics=self.metrics,
            gate=self.gate,
            gate_passed=good,
        )
        self._enter("Done")
        words = in_words(self.gate) if self.gate else "no gate was set"
        warning = "" if good else " (published all the same: onGateFailure is Warn)"
        message = f"{kind.lower()} model of step {checkpoint.step} published at {model.uri}; {words}{warning}"
        log.event(message, digest=model.digest)
        return self._report(ExitCode.DONE, "Published", message, gate_passed=good, output=model)

    def _already(self, output: Store, model: PublishedModel) -> PublishReport:
        manifest = read_manifest(output)
        self.metrics, self.gate = (manifest.metrics, manifest.gate) if manifest else ({}, [])
        message = f"this run is already published at {model.uri}"
        log.event(message, digest=model.digest)
        good = manifest.gate_passed if manifest else None
        return self._report(ExitCode.DONE, "AlreadyPublished", message, gate_passed=good, output=model)

    def _report(self, code: ExitCode, reason: str, message: str, **more: Any) -> PublishReport:
        return PublishReport(
            exit_code=int(code),
            reason=reason,
            message=message,
            stage=self.stage,
            metrics=self.metrics,
            gate=self.gate[:16],
            at=timestamp(),
            **more,
        )

    def _enter(self, stage: str) -> None:
        self.stage = stage
        log.event("stage", stage=stage)

    @property
    def _progress(self) -> Callable[[str, int, int], None]:
        last = [monotonic()]

        def tell(what: str, done: int, total: int) -> None:
            if done == total or monotonic() - last[0] >= _PROGRESS_EVERY:
                last[0] = monotonic()
                log.event("progress", what=what, done=done, total=total)

        return tell


def _ignore(_bytes: int) -> None:
    """Nobody judges hangs of a publish pod by its downloads; the kubelet's deadline does."""


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
