"""What a run minimises, apart from how it is trained: the engine knows an objective by these few questions only.

An objective gives sums, never means. Every rank counts the whole global batch by itself (`weight`), divides its sums by
that count, and the ranks add up what they have: so the loss and its gradient depend neither on the world size, nor on
how records are grouped, nor on which rank happens to hold short ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from finetune_trainer.engine.batch import Batch, Examples

Indices = Sequence[int] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sums:
    """Over one batch of records; `parts` in the order of `Objective.parts`, without gradients."""

    loss: torch.Tensor
    """fp32 scalar, with its gradient."""
    parts: tuple[torch.Tensor, ...] = ()


class Objective(Protocol):
    parts: tuple[str, ...]
    """Names of what is written to metrics.jsonl beside the loss, each a mean over the same count."""

    def weight(self, examples: Examples, indices: Indices) -> int:
        """What sums over these records are divided by: target tokens, pairs."""

    def collate(self, examples: Examples, indices: Indices, pad_id: int) -> Batch:
        """One batch on the CPU, ready for `sums`."""

    def sums(self, model: nn.Module, batch: Batch) -> Sums:
        """One forward pass. A batch without targets adds nothing to any sum, and has a gradient of zero."""


@runtime_checkable
class Samples(Protocol):
    """An objective that learns from what the model writes. `alive` is to be called while it does."""

    def sample(self, model: nn.Module, batch: Batch, alive: Callable[[], object]) -> Batch:
        """What is written after the prompts of a collated batch: what `sums` is asked of. Random numbers are those of
        the micro-batch that was seeded last."""

    def judge(self, model: nn.Module, batch: Batch, alive: Callable[[], object]) -> Sums:
        """Of held-out prompts; nothing is drawn. A part that means nothing here is not a number."""


@runtime_checkable
class LearnsAgain(Samples, Protocol):
    """Samples that one step's updates learn from together, several times. `sums` has to be the same each time for equal
    weights: nothing is drawn in it."""

    updates: int
    """Of the weights in each step."""

    def weigh(self, batches: Sequence[Batch], added: Callable[[torch.Tensor], torch.Tensor]) -> list[Batch]:
        """This rank's samples of the step; `added` gives the sum of a tensor over the ranks."""


@runtime_checkable
class LooksAhead(Protocol):
    """An objective whose loss of one batch depends on the whole global batch."""

    def ahead(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """fp32 scalar without gradient, summed over the batch. The sum over the global batch, divided by its weight,
        is every batch's `ahead` when `sums` is asked."""
