"""Rated answers as the engine handles records: one row is the prompt with its answer, another the prompt with an answer
that was given to somebody else.

The second tells how far the model has moved from the base as a whole. Which answer it is follows from the number of
records alone: every record gets the one that stands before it in a fixed shuffle. So it is the same in every epoch, at
every world size and after every resume, and the base has to be asked of it once only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from finetune_trainer.engine.batch import Batch, Example, collate
from finetune_trainer.engine.order import permutation
from finetune_trainer.objectives.base import Indices
from finetune_trainer.objectives.pairs import Joined, Pairs


class Verdicts(Joined, Protocol):
    """`data.dataset.Examples`, as far as ratings look at them."""

    def good(self, index: int) -> bool:
        """Whether the answer was a good one."""


class Ratings(Pairs):
    """`pair` gives the rated answer, and the same prompt with another record's answer. `reference`: as of pairs."""

    def __init__(self, joined: Verdicts, longest: int, reference: npt.NDArray[np.float32] | None = None) -> None:
        """`longest`: tokens of a row."""
        super().__init__(joined, reference)
        self._verdicts, self._longest = joined, longest
        shuffled = permutation(len(joined), 0, 0)
        self._other = np.empty_like(shuffled)
        self._other[shuffled] = np.roll(shuffled, 1)

    def good(self, index: int) -> bool:
        return self._verdicts.good(int(index))

    def pair(self, index: int) -> tuple[Example, Example]:
        own = self.joined[int(index)]
        return own, self.mismatched(int(index))

    def mismatched(self, index: int) -> Example:
        (ids, targets), (other_ids, other_targets) = self.joined[index], self.joined[int(self._other[index])]
        prompt, start = _answer(targets), _answer(other_targets)
        mixed = np.concatenate([ids[:prompt], other_ids[start:]])[: self._longest]
        wanted = np.concatenate([targets[:prompt], other_targets[start:]])[: self._longest]
        return mixed, wanted


def _answer(targets: npt.NDArray[np.bool_]) -> int:
    """Where the answer begins. The first token is never one that is predicted."""
    return 1 + int(np.argmax(targets[1:]))


def collate_ratings(ratings: Ratings, indices: Indices, pad_id: int) -> Batch:
    """b rows, and beside them the b rows of other answers in the same order."""
    numbers = [int(i) for i in indices]
    batch, beside = (
        collate(rows, range(len(rows)), pad_id)
        for rows in (
            [ratings.joined[i] for i in numbers],
            [ratings.mismatched(i) for i in numbers],
        )
    )
    if ratings.reference is not None:
        own_b, other_b = (torch.from_numpy(ratings.reference[numbers, column].copy()) for column in (0, 1))
        batch, beside = replace(batch, reference_b=own_b), replace(beside, reference_b=other_b)
    return replace(batch, good_b=torch.tensor([ratings.good(i) for i in numbers]), beside=beside)
