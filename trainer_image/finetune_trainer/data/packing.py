"""Which records share a row: best-fit decreasing, so that a batch holds tokens instead of padding.

The longest record goes first; each goes into the fullest row that still has room for it (Johnson 1974: never more than
11/9 of the rows that are needed at least, plus a constant). Records of equal length go by content digest, so that the
rows do not depend on the order of the files. Memory: some 50 bytes a record; tokens are never looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_BEAT_EVERY = 4096


@dataclass(frozen=True)
class Packing:
    """Row i holds the records `members[ends[i - 1]:ends[i]]`, in this order."""

    members: Ints
    ends: Ints

    def __len__(self) -> int:
        return len(self.ends)

    def row(self, index: int) -> Ints:
        if not 0 <= index < len(self.ends):
            raise IndexError(f"row {index} of {len(self.ends)}")
        start = int(self.ends[index - 1]) if index else 0
        return self.members[start : int(self.ends[index])]


def best_fit(
    lengths: Ints,
    digests: npt.NDArray[np.uint64],
    capacity: int,
    heartbeat: Callable[[int], None] = lambda _records: None,
) -> Packing:
    """Rows of at most `capacity` tokens. `heartbeat` is called with a number of records now and then.

    Raises ValueError when a record is longer than a row.
    """
    if len(lengths) and int(lengths.max()) > capacity:
        raise ValueError(f"a record has {int(lengths.max())} tokens, a row takes {capacity}")
    placed = np.lexsort((digests, -lengths))
    row_of = np.empty(len(lengths), dtype=np.int64)
    open_rows: dict[int, list[int]] = {}
    """By tokens of room left; the newest is taken first."""
    rooms = 0
    """Bit n: some row has room for n more tokens. The lowest set bit from a length on is the best fit."""
    rows = 0
    for count, record in enumerate(placed.tolist(), start=1):
        length = int(lengths[record])
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[room].pop()
            if not open_rows[room]:
                rooms ^= 1 << room
        else:
            room, row, rows = capacity, rows, rows + 1
        row_of[record] = row
        if left := room - length:
            open_rows.setdefault(left, []).append(row)
            rooms |= 1 << left
        if count % _BEAT_EVERY == 0:
            heartbeat(_BEAT_EVERY)
    members = placed[np.argsort(row_of[placed], kind="stable")].astype(np.int64)
    return Packing(members, np.cumsum(np.bincount(row_of, minlength=rows)).astype(np.int64))
