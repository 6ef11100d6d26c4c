"""Writes down what a teacher says of a job's records, so that students can learn from it without it.

One pass over the data instead of one an epoch and a run, on a machine of its own; the student's GPUs then hold nothing
but the student. Records are encoded as the job encodes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from finetune_api.objective import objective_of
from finetune_api.runconfig import RunConfig
from finetune_trainer.common.errors import SpecError
from finetune_trainer.common.models import fetch_model, fetch_teacher
from finetune_trainer.common.places import Places
from finetune_trainer.data.dataset import Examples, load_splits
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.data.top_k import Example, Said, key_of, write
from finetune_trainer.data.top_k_header import Header
from finetune_trainer.engine.batch import collate
from finetune_trainer.engine.model import compute_precision, load_tokenizer, pad_id
from finetune_trainer.objectives.distill import load_teacher, log_probs
from finetune_trainer.objectives.divergence import binned

TOKENS_PER_BATCH = 8192
RECORDS_PER_FILE = 4096

Progress = Callable[[int, int], None]
"""(done, all)."""


def teach(config: RunConfig, places: Places, to: Path, k: int, progress: Progress) -> list[Path]:
    """The files, below `to`, for every record of the job that is trained on or held out. Raises RunError."""
    settings = objective_of(config.spec).distill
    if settings is None or settings.teacher is None:
        raise SpecError(
            "spec.objective", config.spec.objective, "teach asks a teacher; set type: Distill with distill.teacher"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base = fetch_model(config, places.model, _ignore)
    folder = fetch_teacher(config, places.teacher, _ignore)
    data = fetch_data(config, places.data, _ignore)
    assert folder is not None
    tokenizer = load_tokenizer(base)
    splits = load_splits(config, data, tokenizer)
    header = Header(k, vocabulary(base), settings.temperature)
    teacher = load_teacher(config.spec, folder, header.vocabulary, device)
    if not k < header.vocabulary:
        raise SpecError("--top-k", k, f"it has to be below the vocabulary's {header.vocabulary} tokens")
    records = distinct(splits.train, splits.validation)
    to.mkdir(parents=True, exist_ok=True)
    files = []
    for number, start in enumerate(range(0, len(records), RECORDS_PER_FILE)):
        part = records[start : start + RECORDS_PER_FILE]
        with compute_precision(config.spec.training.precision, device):
            said = ask(teacher, part, k, float(settings.temperature), pad_id(tokenizer), device)
        files.append(write(to, number, header, said))
        progress(start + len(part), len(records))
    return files


def vocabulary(folder: Path) -> int:
    """Tokens that the model there tells apart."""
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(str(folder), local_files_only=True).get_text_config().vocab_size)


def distinct(*splits: Examples) -> list[Example]:
    """Each once, in the order of the data: repeated ones (weights, balance) are asked of once."""
    found: dict[int, Example] = {}
    for examples in splits:
        for index in range(len(examples)):
            example = examples[index]
            found.setdefault(key_of(example), example)
    return list(found.values())


def ask(
    teacher: nn.Module, records: list[Example], k: int, temperature: float, pad: int, device: torch.device
) -> list[tuple[int, Said]]:
    """In the order of the records."""
    found: dict[int, Said] = {}
    for indices in _batches(records):
        batch = collate(records, indices, pad).to(device)
        said_nv = log_probs(teacher, batch, temperature)
        tokens_nk = said_nv.topk(k, dim=-1).indices
        said_nk = binned(said_nv, tokens_nk)
        start = 0
        for index in indices:
            end = start + int(np.count_nonzero(records[index][1][1:]))
            tokens, log_probs_nk = (t[start:end].cpu().numpy() for t in (tokens_nk, said_nk))
            found[index] = tokens.astype(np.int32), log_probs_nk
            start = end
    return [(key_of(record), found[index]) for index, record in enumerate(records)]


def _batches(records: list[Example]) -> Iterator[list[int]]:
    """Of similar length, at most 8192 padded tokens together (one record may be longer)."""
    order = sorted(range(len(records)), key=lambda i: -len(records[i][0]))
    batch: list[int] = []
    for index in order:
        if batch and len(records[batch[0]][0]) * (len(batch) + 1) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _ignore(_bytes: int) -> None:
    """Nobody judges hangs here: the person at the terminal does."""
