"""Records of different lengths become one padded batch.

Legend of suffixes: b records, t tokens of the longest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from finetune_trainer.data.packed import Packed

Example = tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]
"""(ids, targets): the ids of a record, and where the loss is taken on predicting them."""


class Examples(Protocol):
    """Tokenized records, as `data.dataset` maps them from files."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@dataclass(frozen=True)
class Batch:
    ids_bt: torch.Tensor
    attention_bt: torch.Tensor
    targets_bt: torch.Tensor
    """bool; the first token of a record is never a target, nothing predicts it."""
    positions_bt: torch.Tensor | None = None
    """Of packed rows: they begin anew with every record, and keep the records apart in place of the mask."""

    def to(self, device: torch.device) -> Batch:
        if device.type == "cpu":
            return self
        moved = (
            t if t is None else t.pin_memory().to(device, non_blocking=True)
            for t in (self.ids_bt, self.attention_bt, self.targets_bt, self.positions_bt)
        )
        return Batch(*moved)  # type: ignore[arg-type]


def without_targets(batch: Batch) -> Batch:
    """Goes through the model like any other and adds nothing to loss or gradients."""
    return replace(batch, targets_bt=torch.zeros_like(batch.targets_bt))


def collate(examples: Examples, indices: Sequence[int] | npt.NDArray[np.int64], pad_id: int) -> Batch:
    """Pads on the right. Padding of packed rows is a segment of its own."""
    records = [examples[int(i)] for i in indices]
    shape = (len(records), max(len(ids) for ids, _ in records))
    ids_bt = np.full(shape, pad_id, dtype=np.int64)
    attention_bt = np.zeros(shape, dtype=np.int64)
    targets_bt = np.zeros(shape, dtype=np.bool_)
    for row, (ids, targets) in enumerate(records):
        ids_bt[row, : len(ids)] = ids
        attention_bt[row, : len(ids)] = 1
        targets_bt[row, 1 : len(ids)] = targets[1:]
    batch = Batch(torch.from_numpy(ids_bt), torch.from_numpy(attention_bt), torch.from_numpy(targets_bt))
    if not isinstance(examples, Packed):
        return batch
    positions_bt = np.zeros(shape, dtype=np.int64)
    for row, index in enumerate(indices):
        positions = examples.positions(int(index))
        positions_bt[row, : len(positions)] = positions
        positions_bt[row, len(positions) :] = np.arange(shape[1] - len(positions))
    return replace(batch, positions_bt=torch.from_numpy(positions_bt))


def target_tokens(examples: Examples, indices: Sequence[int] | npt.NDArray[np.int64]) -> int:
    """Every rank can count the whole global batch by itself: no communication before the backward pass."""
    return sum(int(np.count_nonzero(examples[int(i)][1][1:])) for i in indices)
