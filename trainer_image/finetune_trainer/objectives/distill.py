"""Distillation: the student's distribution over the next token comes nearer to the teacher's, at the records' targets.

Answers are the records' own (off-policy): they were written beforehand, by people or by the teacher. The teacher is a
second model that every rank holds whole and that nothing ever changes; so it is no part of a checkpoint, and what it
says of a batch depends on nothing but the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import objective_of
from finetune_api.objective_distill import DistillSettings
from finetune_trainer.common.errors import SpecError
from finetune_trainer.data.top_k import TopK
from finetune_trainer.data.top_k_header import require_alike
from finetune_trainer.engine.attention import candidates
from finetune_trainer.engine.batch import Batch, Examples, collate, target_tokens
from finetune_trainer.engine.loss import target_logits
from finetune_trainer.engine.model import computed_type, load_base
from finetune_trainer.objectives.base import Indices, Sums
from finetune_trainer.objectives.divergence import binned, divergence_sum

PARTS = ("divergence", "targetLoss")
FIELD = "spec.objective.distill.teacher.uri"


class Distill:
    """Loss: weight * divergence + (1 - weight) * negative log-likelihood, summed over target tokens, divided by their
    number. The divergence is at `temperature`, the likelihood at 1."""

    parts: tuple[str, ...] = PARTS

    def __init__(self, settings: DistillSettings, teacher: nn.Module | None = None) -> None:
        """`teacher` is given later, when it is known where it is to stand."""
        self._settings, self._teacher = settings, teacher
        self._weight, self._temperature = float(settings.weight), float(settings.temperature)
        self.answers: TopK | None = None
        """In the teacher's place, where they were written down."""

    @property
    def teacher(self) -> nn.Module:
        assert self._teacher is not None, "nobody has loaded the teacher"
        return self._teacher

    @teacher.setter
    def teacher(self, teacher: nn.Module) -> None:
        self._teacher = teacher

    def weight(self, examples: Examples, indices: Indices) -> int:
        return target_tokens(examples, indices)

    def collate(self, examples: Examples, indices: Indices, pad_id: int) -> Batch:
        batch = collate(examples, indices, pad_id)
        if self.answers is None:
            return batch
        tokens, said = zip(*(self.answers.said(examples[int(i)]) for i in indices), strict=True)
        return replace(
            batch,
            taught_nk=torch.from_numpy(np.concatenate(tokens).astype(np.int64)),
            taught_log_probs_nk=torch.from_numpy(np.concatenate(said)),
        )

    def sums(self, model: nn.Module, batch: Batch) -> Sums:
        batch = batch.located()
        assert batch.labels_n is not None
        taught_nv = self._told(batch)
        logits_nv = target_logits(model, batch)
        mixed = self._weight < 1
        told = nn.functional.cross_entropy(logits_nv if mixed else logits_nv.detach(), batch.labels_n, reduction="sum")
        student_nv = nn.functional.log_softmax(logits_nv / self._temperature, dim=-1)
        if batch.taught_nk is not None:
            student_nv = binned(student_nv, batch.taught_nk)
        found = divergence_sum(student_nv, taught_nv, beta=self._settings.teacher_share)
        loss = self._weight * found + (1 - self._weight) * told if mixed else found
        return Sums(loss, (found.detach(), told.detach()))

    def _told(self, batch: Batch) -> torch.Tensor:
        """fp32 (n, v) by a teacher, or (n, k + 1) by its answers."""
        if batch.taught_log_probs_nk is not None:
            return batch.taught_log_probs_nk
        return log_probs(self.teacher, batch, self._temperature)


@torch.no_grad()
def log_probs(teacher: nn.Module, batch: Batch, temperature: float) -> torch.Tensor:
    """fp32 (n, v)."""
    return nn.functional.log_softmax(target_logits(teacher, batch) / temperature, dim=-1)


def equip(
    objective: Distill,
    spec: FineTuneJobSpec,
    folder: Path,
    student: Any,
    device: torch.device,
    records: Sequence[Examples],
) -> None:
    """With what was fetched to `folder`: the teacher, or its answers to these records. Raises RunError (64, 66)."""
    settings = objective_of(spec).distill
    assert settings is not None
    if settings.top_k is None:
        objective.teacher = load_teacher(spec, folder, tokens_of(student), device)
        return
    answers = TopK(folder)
    require_alike(answers.header, tokens_of(student), settings)
    for examples in records:
        answers.require(examples[i] for i in range(len(examples)))
    objective.answers = answers


def load_teacher(spec: FineTuneJobSpec, folder: Path, tokens: int, device: torch.device) -> nn.Module:
    """On the device, frozen, without dropout; on a GPU in the precision of training. `tokens`: that the
    student tells apart. Raises SpecError (64) when the teacher's answers are not about them."""
    teacher = load_base(folder, computed_type(spec, device), candidates(spec, device))
    theirs = tokens_of(teacher)
    if tokens != theirs:
        raise SpecError(
            FIELD,
            theirs,
            f"the teacher tells {theirs} tokens apart, the student {tokens}; name a teacher with its vocabulary",
        )
    return teacher.to(device).eval().requires_grad_(False)


def tokens_of(model: Any) -> int:
    """That the model tells apart."""
    return int(model.config.get_text_config().vocab_size)
