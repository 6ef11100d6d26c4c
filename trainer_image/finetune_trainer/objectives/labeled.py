"""Labeled texts as the engine handles records: one row is one text, and its labels go beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from finetune_trainer.engine.batch import Batch, Example, collate
from finetune_trainer.objectives.base import Indices


class Sorted(Protocol):
    """`data.dataset.Examples`, as far as labeled texts look at them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...

    def classes(self, index: int) -> npt.NDArray[np.int32]:
        """Numbers of the labels that the text has."""

    def is_truncated(self, index: int) -> bool: ...

    @property
    def lengths(self) -> npt.NDArray[np.int64]: ...

    @property
    def digests(self) -> npt.NDArray[np.uint64]: ...


class LabeledTexts(Sequence[Example]):
    def __init__(self, texts: Sorted) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._texts[int(index)]

    def classes(self, index: int) -> npt.NDArray[np.int32]:
        return self._texts.classes(int(index))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return self._texts.lengths

    @property
    def digests(self) -> npt.NDArray[np.uint64]:
        return self._texts.digests

    def is_truncated(self, index: int) -> bool:
        return self._texts.is_truncated(index)


def collate_labeled(texts: LabeledTexts, indices: Indices, pad_id: int, outputs: int) -> Batch:
    """b rows. Nothing is predicted in them: the first place of a row is marked where the row counts."""
    numbers = [int(i) for i in indices]
    batch = collate(texts, numbers, pad_id)
    classes_bc = torch.zeros(len(numbers), outputs)
    for row, index in enumerate(numbers):
        classes_bc[row, torch.from_numpy(texts.classes(index).astype(np.int64))] = 1
    batch.targets_bt[:, 0] = True
    return replace(batch, classes_bc=classes_bc)
