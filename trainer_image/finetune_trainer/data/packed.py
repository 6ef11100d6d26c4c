"""Rows of packed records: an index over the memory-mapped encodings, not a second copy of their tokens.

The index says which records make a row; ids, targets and segment boundaries follow from the encodings. It is a function
of the records' lengths and contents alone: every pod makes the same one, whatever the world size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from finetune_trainer.data.once import made_once
from finetune_trainer.data.packing import Packing, best_fit

_FORMAT = 1

Example = tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]


class Records(Protocol):
    """`data.dataset.Examples`, as far as packing looks at them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...

    @property
    def lengths(self) -> npt.NDArray[np.int64]: ...

    @property
    def digests(self) -> npt.NDArray[np.uint64]: ...


@dataclass(frozen=True)
class PackedCounts:
    rows: int
    records: int
    tokens: int
    capacity: int

    @property
    def efficiency_percent(self) -> float:
        """Tokens per place for one; 100 is no padding at all."""
        return 100 * self.tokens / (self.rows * self.capacity) if self.rows else 0.0


class Packed(Sequence[Example]):
    """One item is one row: (ids, targets), records one after another. No segment's first token is a target."""

    def __init__(self, records: Records, packing: Packing, capacity: int) -> None:
        self._records, self._packing = records, packing
        self._lengths = records.lengths
        self.counts = PackedCounts(len(packing), len(records), int(self._lengths.sum()), capacity)

    def __len__(self) -> int:
        return len(self._packing)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        members = [self._records[int(record)] for record in self._packing.row(int(index))]
        targets = np.concatenate([targets for _ids, targets in members])
        targets[np.cumsum([0, *(len(ids) for ids, _targets in members[:-1])])] = False
        return np.concatenate([ids for ids, _targets in members]), targets

    def records(self, index: int) -> npt.NDArray[np.int64]:
        """Numbers of the records in a row."""
        return self._packing.row(index)

    def positions(self, index: int) -> npt.NDArray[np.int64]:
        """Of every token within its own record."""
        lengths = self._lengths[self._packing.row(index)]
        starts = np.cumsum(lengths) - lengths
        return np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(starts, lengths)


def pack(records: Records, capacity: int, folder: Path, heartbeat: Callable[[int], None]) -> Packed:
    """Packs once per pod into `folder`; whoever comes later maps the same index."""
    lengths, digests = np.ascontiguousarray(records.lengths), np.ascontiguousarray(records.digests)
    form = json.dumps({"format": _FORMAT, "capacity": capacity}).encode()
    name = hashlib.sha256(form + lengths.tobytes() + digests.tobytes()).hexdigest()[:16]
    place = folder / f"packed-{name}"

    def make(work: Path) -> None:
        packing = best_fit(lengths, digests, capacity, heartbeat)
        np.save(work / "members.npy", packing.members)
        np.save(work / "ends.npy", packing.ends)

    made_once(place, make, heartbeat)
    members, ends = (np.load(place / f"{part}.npy", mmap_mode="r") for part in ("members", "ends"))
    return Packed(records, Packing(members, ends), capacity)
