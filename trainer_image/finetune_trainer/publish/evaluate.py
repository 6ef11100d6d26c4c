"""Held-out loss, perplexity and exact match of one model, the same way for the base and for the final artefact.

Legend: b records, t tokens of the longest one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from finetune_trainer.common import log
from finetune_trainer.data.dataset import Examples
from finetune_trainer.data.wrapped import Wrapped
from finetune_trainer.engine.batch import collate
from finetune_trainer.engine.loss import target_loss_sum
from finetune_trainer.engine.write import as_text, last_answer, write
from finetune_trainer.objectives.labeled import LabeledTexts
from finetune_trainer.objectives.pairs import Pairs

TOKENS_PER_BATCH = 8192
PROMPTS_PER_BATCH = 32
_MAX_EXPONENT = 700.0

Progress = Callable[[int, int], None]
"""(done, all)."""
Measurable = Examples | Wrapped | Pairs | LabeledTexts


@dataclass(frozen=True)
class Prompt:
    """Token ids up to where the model must write, and the text that is expected."""

    ids: list[int]
    target: str


def held_out_loss(
    model: nn.Module, examples: Examples | Wrapped, pad_id: int, device: torch.device, progress: Progress
) -> tuple[float, int]:
    """(mean negative log-likelihood over target tokens, their number). Batches hold records of similar length."""
    total, tokens, done = 0.0, 0, 0
    with torch.inference_mode():
        for indices in batches(examples):
            batch = collate(examples, indices, pad_id)
            tokens += int(batch.targets_bt.sum())
            total += float(target_loss_sum(model, batch.to(device)).double())
            done += len(indices)
            progress(done, len(examples))
    return total / tokens, tokens


def perplexity(loss: float) -> float:
    """exp(loss), kept finite: JSON has no infinity."""
    return math.exp(min(loss, _MAX_EXPONENT))


def prompts(examples: Examples, tokenizer: Any, count: int) -> list[Prompt]:
    """The first `count` records that were not truncated, each cut before its last trained part."""
    found: list[Prompt] = []
    for index in range(len(examples)):
        if len(found) >= count:
            break
        if examples.is_truncated(index):
            continue
        ids, targets = examples[index]
        start, end = last_answer(targets)
        if start > 0:
            found.append(Prompt(ids[:start].tolist(), as_text(tokenizer, ids[start:end].tolist())))
    return found


def exact_match(
    model: Any,
    wanted: Sequence[Prompt],
    tokenizer: Any,
    *,
    stops: Sequence[int],
    max_new_tokens: int,
    pad_id: int,
    device: torch.device,
    progress: Progress,
) -> float:
    """The share of prompts whose greedy continuation is the expected text, white space at the ends aside."""
    hits = 0
    for start in range(0, len(wanted), PROMPTS_PER_BATCH):
        batch = wanted[start : start + PROMPTS_PER_BATCH]
        answers = write(
            model, [p.ids for p in batch], stops=stops, max_new_tokens=max_new_tokens, pad_id=pad_id, device=device
        )
        for prompt, answer in zip(batch, answers, strict=True):
            hits += as_text(tokenizer, [token for token in answer if token not in stops]) == prompt.target
        progress(start + len(batch), len(wanted))
    return hits / len(wanted)


def warn_of_long_targets(wanted: Sequence[Prompt], tokenizer: Any, max_new_tokens: int) -> None:
    lengths = [len(tokenizer(p.target, add_special_tokens=False)["input_ids"]) for p in wanted]
    longer = sum(length > max_new_tokens for length in lengths)
    if longer:
        log.warning(
            "prompts whose expected answer is longer than evaluation.samples.maxNewTokens can never match; raise it",
            prompts=longer,
            of=len(wanted),
            longest=max(lengths),
            maxNewTokens=max_new_tokens,
        )


def batches(examples: Measurable) -> Iterator[list[int]]:
    """Indices, longest first, at most 8192 padded tokens together (one record may be longer)."""
    lengths = examples.lengths
    order = np.argsort(-lengths, kind="stable")
    batch: list[int] = []
    for index in order:
        if batch and int(lengths[batch[0]]) * (len(batch) + 1) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(int(index))
    if batch:
        yield batch
