"""Encoded records on disk: flat arrays that every process of a pod maps, and the policy for overlong records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from finetune_api.data import Data, Overflow
from finetune_trainer.data.read import DataError
from finetune_trainer.data.sources import NamedSource


class Encodings:
    """Flat arrays of all encoded records: ids, targets, and per record its end, digest, flags."""

    def __init__(self, folder: Path) -> None:
        self.ends: npt.NDArray[np.int64] = np.load(folder / "ends.npy")
        self.digests: npt.NDArray[np.uint64] = np.load(folder / "digests.npy")
        self.truncated: npt.NDArray[np.bool_] = np.load(folder / "truncated.npy")
        self.held_out: npt.NDArray[np.bool_] = np.load(folder / "held_out.npy")
        self.ids: npt.NDArray[np.int32] = np.memmap(folder / "ids.bin", dtype=np.int32, mode="r")
        self.targets: npt.NDArray[np.bool_] = np.memmap(folder / "targets.bin", dtype=np.bool_, mode="r")
        self.counts = json.loads((folder / "counts.json").read_text())


class EncodingsWriter:
    """Collects encodings in files, so that memory stays bounded by the number of records."""

    def __init__(self, folder: Path, data: Data) -> None:
        self._folder, self._data = folder, data
        self._ends: list[int] = []
        self._digests: list[int] = []
        self._truncated: list[bool] = []
        self._held_out: list[bool] = []
        self.records = self.truncated = self.dropped = self.last_turn_only = 0

    def __enter__(self) -> EncodingsWriter:
        self._ids = (self._folder / "ids.bin").open("wb")
        self._targets = (self._folder / "targets.bin").open("wb")
        return self

    def __exit__(self, *_error: object) -> None:
        self._ids.close()
        self._targets.close()

    def add(self, ids: list[int], targets: list[bool], digest: int, named: NamedSource, place: str) -> None:
        self.records += 1
        limit = self._data.max_length
        overlong = len(ids) > limit
        if overlong and self._data.on_overflow is Overflow.ERROR:
            raise DataError(
                named.field,
                f"{named.field}: {place}: the record has {len(ids)} tokens, data.maxLength is {limit}; shorten it, "
                "raise maxLength, or set data.onOverflow to Truncate or Drop",
                reason="RecordTooLong",
            )
        ids, targets = ids[:limit], targets[:limit]
        # The first id is predicted from nothing, so a target there teaches nothing.
        if (overlong and self._data.on_overflow is Overflow.DROP) or not any(targets[1:]):
            self.dropped += 1
            return
        self.truncated += overlong
        self._ids.write(np.asarray(ids, dtype=np.int32).tobytes())
        self._targets.write(np.asarray(targets, dtype=np.bool_).tobytes())
        self._ends.append((self._ends[-1] if self._ends else 0) + len(ids))
        self._digests.append(digest)
        self._truncated.append(overlong)
        self._held_out.append(named.held_out)

    def finish(self, malformed: int) -> int:
        """The number of encoded records."""
        self._ids.flush()
        self._targets.flush()
        np.save(self._folder / "ends.npy", np.asarray(self._ends, dtype=np.int64))
        np.save(self._folder / "digests.npy", np.asarray(self._digests, dtype=np.uint64))
        np.save(self._folder / "truncated.npy", np.asarray(self._truncated, dtype=np.bool_))
        np.save(self._folder / "held_out.npy", np.asarray(self._held_out, dtype=np.bool_))
        counts = {
            "records": self.records,
            "malformed": malformed,
            "truncated": self.truncated,
            "dropped": self.dropped,
            "last_turn_only": self.last_turn_only,
        }
        (self._folder / "counts.json").write_text(json.dumps(counts))
        return len(self._ends)
