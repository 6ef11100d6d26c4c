"""Records of different lengths become one padded batch.

Legend of suffixes: b records, t tokens of the longest one, n targets of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from finetune_trainer.data.packed import Packed
from finetune_trainer.data.wrapped import Wrapped

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
    predicts_n: torch.Tensor | None = None
    """Where the next token is a target, counted through the rows one after another (b times t)."""
    labels_n: torch.Tensor | None = None
    """The tokens to be predicted there."""
    reference_b: torch.Tensor | None = None
    """Of every row, what the base model says of its targets, where an objective wants that."""
    good_b: torch.Tensor | None = None
    """bool, of every row: the verdict on a rated answer."""
    classes_bc: torch.Tensor | None = None
    """fp32, of every row: 1 for each label that it has."""
    rewards_bf: torch.Tensor | None = None
    """fp32, of every row: what each reward function gives its answer."""
    rollout_kn: torch.Tensor | None = None
    """fp32, of every target: what an objective keeps of the moment when it was written."""
    beside: Batch | None = None
    """Rows that an objective looks at before the loss of these is taken."""
    ahead: torch.Tensor | None = None
    """What it found there: a mean over the global batch."""
    taught_nk: torch.Tensor | None = None
    """Of every target, the k tokens that a teacher found likeliest there."""
    taught_log_probs_nk: torch.Tensor | None = None
    """fp32 (n, k + 1): what it said of them, and of all others together."""

    def located(self) -> Batch:
        """With `predicts_n` and `labels_n`. Best done where the batch is made: a GPU would have to be waited for."""
        if self.predicts_n is not None:
            return self
        follows_bt = self.targets_bt.clone()
        follows_bt[:, 0] = False
        found_n = follows_bt.reshape(-1).nonzero().squeeze(1)
        return replace(self, predicts_n=found_n - 1, labels_n=self.ids_bt.reshape(-1).index_select(0, found_n))

    @property
    def row_n(self) -> torch.Tensor:
        """Of a located batch: whose target each one is."""
        assert self.predicts_n is not None
        return self.predicts_n // self.ids_bt.shape[1]

    def pinned(self) -> Batch:
        """In memory that a GPU reads while the CPU goes on."""
        return self._each(torch.Tensor.pin_memory)

    def to(self, device: torch.device) -> Batch:
        return self if device.type == "cpu" else self._each(lambda t: t.to(device, non_blocking=True))

    def _each(self, act: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return Batch(*(_moved(getattr(self, field.name), act) for field in fields(self)))


def _moved(value: Any, act: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, Batch):
        return value._each(act)
    return None if value is None else act(value)


def without_targets(batch: Batch) -> Batch:
    """Goes through the model like any other and adds nothing to loss or gradients."""
    none = torch.zeros_like(batch.targets_bt)
    beside = None if batch.beside is None else without_targets(batch.beside)
    taught, said = (None if t is None else t[:0] for t in (batch.taught_nk, batch.taught_log_probs_nk))
    nothing = replace(batch, targets_bt=none, predicts_n=None, labels_n=None, beside=beside)
    return replace(nothing, taught_nk=taught, taught_log_probs_nk=said).located()


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
    batch = Batch(torch.from_numpy(ids_bt), torch.from_numpy(attention_bt), torch.from_numpy(targets_bt)).located()
    if not (isinstance(examples, Packed) or (isinstance(examples, Wrapped) and examples.joined)):
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
