"""Pairs of answers as the engine handles records: one example is both answers, one row of a batch is one of them.

The encoded data keeps a pair as one record (chosen answer, rejected answer, where the second begins), so that splits,
deduplication and data order treat it as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from finetune_trainer.engine.batch import Batch, Example, collate
from finetune_trainer.objectives.base import Indices


class Joined(Protocol):
    """`data.dataset.Examples`, as far as pairs look at them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...

    def second(self, index: int) -> int:
        """Where the rejected answer begins, with its prompt."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]: ...

    @property
    def digests(self) -> npt.NDArray[np.uint64]: ...


class Pairs(Sequence[Example]):
    """`reference`: (pairs, 2) log-likelihoods under the base model, chosen first; None: asked of the model itself."""

    def __init__(self, joined: Joined, reference: npt.NDArray[np.float32] | None = None) -> None:
        self.joined, self.reference = joined, reference

    def knowing(self, reference: npt.NDArray[np.float32]) -> Self:
        """The same pairs with what the base says of them."""
        other = copy(self)
        other.reference = reference
        return other

    def __len__(self) -> int:
        return len(self.joined)

    def __getitem__(self, index: Any) -> Any:
        """Both answers one after the other, for counting."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.joined[int(index)]

    def pair(self, index: int) -> tuple[Example, Example]:
        ids, targets = self.joined[int(index)]
        border = self.joined.second(int(index))
        return (ids[:border], targets[:border]), (ids[border:], targets[border:])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return self.joined.lengths

    @property
    def digests(self) -> npt.NDArray[np.uint64]:
        return self.joined.digests

    def is_truncated(self, _index: int) -> bool:
        return False


def collate_pairs(pairs: Pairs, indices: Indices, pad_id: int) -> Batch:
    """2b rows: the chosen answers, then the rejected ones in the same order."""
    both = [pairs.pair(int(i)) for i in indices]
    rows = [chosen for chosen, _ in both] + [rejected for _, rejected in both]
    batch = collate(rows, range(len(rows)), pad_id)
    if pairs.reference is None:
        return batch
    known = pairs.reference[np.asarray(indices, dtype=np.int64)].T.reshape(-1)
    return replace(batch, reference_b=torch.from_numpy(np.ascontiguousarray(known)))
