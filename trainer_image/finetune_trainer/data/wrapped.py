"""Rows of raw text: documents one after another, cut every so many tokens, so that no place is empty and none is lost.

A document may begin in one row and go on in the next. Rows are an index over the memory-mapped encodings. Positions
begin anew with every document, which keeps them apart where the model's attention knows how; where it does not, each
document is cut into rows of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune_trainer.data.packed import Example, PackedCounts, Records


class Wrapped(Sequence[Example]):
    """One item is one row of up to `capacity` tokens: (ids, targets). With `join` rows run over documents' ends."""

    def __init__(self, records: Records, capacity: int, *, join: bool) -> None:
        self._records, self._capacity, self.joined = records, capacity, join
        self._documents = records.lengths
        self._ends = np.cumsum(self._documents)
        self._bounds = _bounds(self._documents, capacity, join=join)
        self.counts = PackedCounts(len(self._bounds), len(records), int(self.lengths.sum()), capacity)

    def __len__(self) -> int:
        return len(self._bounds)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        pieces = [self._piece(*piece) for piece in self._pieces(int(index))]
        ids, targets = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        return ids, targets

    def positions(self, index: int) -> npt.NDArray[np.int64]:
        """Of every token within its piece of a document."""
        return np.concatenate([np.arange(stop - start, dtype=np.int64) for _, start, stop in self._pieces(index)])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        lengths: npt.NDArray[np.int64] = self._bounds[:, 1] - self._bounds[:, 0]
        return lengths

    def is_truncated(self, _index: int) -> bool:
        return False

    def _piece(self, document: int, start: int, stop: int) -> Example:
        ids, targets = self._records[document]
        kept = np.array(targets[start:stop])
        kept[0] = False  # nothing in this row predicts it
        return ids[start:stop], kept

    def _pieces(self, index: int) -> list[tuple[int, int, int]]:
        """(document, from its token, to its token) of a row."""
        start, stop = (int(bound) for bound in self._bounds[index])
        document = int(np.searchsorted(self._ends, start, side="right"))
        found = []
        while start < stop:
            begins = int(self._ends[document] - self._documents[document])
            until = min(stop, int(self._ends[document]))
            found.append((document, start - begins, until - begins))
            start, document = until, document + 1
        return found


def _bounds(lengths: npt.NDArray[np.int64], capacity: int, *, join: bool) -> npt.NDArray[np.int64]:
    """(rows, 2): from and to, counted through all documents. A single token left over teaches nothing: no row."""
    spans = np.array([lengths.sum()], dtype=np.int64) if join else lengths
    counts = -(-spans // capacity)
    begins = np.repeat(np.cumsum(spans) - spans, counts)
    number = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = begins + number * capacity
    stops = np.minimum(starts + capacity, np.repeat(np.cumsum(spans), counts))
    return np.stack([starts, stops], axis=1)[stops - starts > 1]
