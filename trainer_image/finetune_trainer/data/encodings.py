"""Encoded records on disk: flat arrays that every process of a pod maps, and the policy for overlong records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune_api.data import Data, Overflow
from finetune_trainer.data.encode import Encoded
from finetune_trainer.data.minhash import SIZE
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
        self.records: npt.NDArray[np.int64] = np.load(folder / "records.npy")
        """The number of the record that a row is a part of: two rows are of one record when onOverflow is Split."""
        self.sources: npt.NDArray[np.int64] = np.load(folder / "sources.npy")
        """By their number in `named_sources`."""
        self.seconds: npt.NDArray[np.int64] = np.load(folder / "seconds.npy")
        """Of a pair: where its second answer begins within the record; else 0."""
        self.good: npt.NDArray[np.bool_] = np.load(folder / "good.npy")
        """Of a rated answer: the verdict; else false."""
        self.class_ends: npt.NDArray[np.int64] = np.load(folder / "class_ends.npy")
        self.classes: npt.NDArray[np.int32] = np.load(folder / "classes.npy")
        """Of labeled texts: numbers of their labels, one text after another."""
        self.groups: npt.NDArray[np.uint64] = np.load(folder / "groups.npy")
        """Hashes of the column to balance by; empty when nothing is balanced."""
        self.places: npt.NDArray[np.float64] = np.load(folder / "places.npy")
        """Numbers of the column that data.curriculum goes by; empty when it goes by none."""
        self._signatures = folder / "signatures.bin"
        self.counts = json.loads((folder / "counts.json").read_text())
        self.report: dict[str, Any] = json.loads((folder / "report.json").read_text())

    @property
    def signatures(self) -> npt.NDArray[np.uint32]:
        """Of every record (not row) that was encoded; only there when near duplicates are looked for."""
        return np.fromfile(self._signatures, dtype=np.uint32).reshape(-1, SIZE)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record comes from, and what else has to be known of it."""

    named: NamedSource
    source: int
    place: str
    digest: int
    group: int | None = None
    signature: npt.NDArray[np.uint32] | None = None
    place_in_order: float | None = None


class EncodingsWriter:
    """Collects encodings in files, so that memory stays bounded by the number of records."""

    def __init__(self, folder: Path, data: Data, *, whole: bool = False) -> None:
        """`whole`: records are kept as long as they are; whoever reads them cuts them into rows."""
        self._folder, self._data, self._whole = folder, data, whole
        self._ends: list[int] = []
        self._digests: list[int] = []
        self._truncated: list[bool] = []
        self._held_out: list[bool] = []
        self._records: list[int] = []
        self._sources: list[int] = []
        self._groups: list[int] = []
        self._seconds: list[int] = []
        self._places: list[float] = []
        self._good: list[bool] = []
        self._classes: list[int] = []
        self._class_ends: list[int] = []
        self._kept = 0
        self.records = self.truncated = self.dropped = self.last_turn_only = 0

    def __enter__(self) -> EncodingsWriter:
        self._ids = (self._folder / "ids.bin").open("wb")
        self._targets = (self._folder / "targets.bin").open("wb")
        self._signatures = (self._folder / "signatures.bin").open("wb")
        return self

    def __exit__(self, *_error: object) -> None:
        self._ids.close()
        self._targets.close()
        self._signatures.close()

    def add(
        self,
        ids: list[int],
        targets: list[bool],
        origin: Origin,
        *,
        good: bool | None = None,
        classes: tuple[int, ...] | None = None,
    ) -> bool:
        """Whether anything of the record is kept. `good`: the verdict on a rated answer, which is one row: cut short
        where the policy is Split. `classes`: of a labeled text, which has nothing to predict."""
        self.records += 1
        limit, policy = self._data.max_length, self._data.on_overflow
        if good is not None and policy is Overflow.SPLIT:
            policy = Overflow.TRUNCATE
        if self._whole:
            limit = max(limit, len(ids))
        overlong = len(ids) > limit
        if overlong and policy is Overflow.ERROR:
            raise self._too_long(len(ids), origin)
        end = len(ids) if overlong and policy is Overflow.SPLIT else limit
        rows = [(ids[at : at + limit], targets[at : at + limit]) for at in range(0, min(end, len(ids)), limit)]
        # The first id is predicted from nothing, so a target there teaches nothing.
        rows = [row for row in rows if any(row[1][1:]) or (classes is not None and row[0])]
        if (overlong and policy is Overflow.DROP) or not rows:
            self.dropped += 1
            return False
        self.truncated += overlong and policy is Overflow.TRUNCATE
        for row_ids, row_targets in rows:
            cut = overlong and policy is Overflow.TRUNCATE
            self._write(row_ids, row_targets, origin, cut, good=bool(good), classes=classes or ())
        if origin.signature is not None:
            self._signatures.write(origin.signature.tobytes())
        self._kept += 1
        return True

    def add_pair(self, chosen: Encoded, rejected: Encoded, origin: Origin) -> bool:
        """One record: the second answer follows the first, with its prompt. Each has maxLength tokens to itself, and is
        cut there where the policy is Split; where one of them cannot be kept there is nothing to compare."""
        self.records += 1
        limit, policy = self._data.max_length, self._data.on_overflow
        longest = max(len(chosen.ids), len(rejected.ids))
        if longest > limit and policy is Overflow.ERROR:
            raise self._too_long(longest, origin)
        learned = all(any(answer.targets[1:limit]) for answer in (chosen, rejected))
        if (longest > limit and policy is Overflow.DROP) or not learned:
            self.dropped += 1
            return False
        self.truncated += longest > limit
        ids = chosen.ids[:limit] + rejected.ids[:limit]
        targets = chosen.targets[:limit] + rejected.targets[:limit]
        self._write(ids, targets, origin, longest > limit, second=min(len(chosen.ids), limit))
        if origin.signature is not None:
            self._signatures.write(origin.signature.tobytes())
        self._kept += 1
        return True

    def _too_long(self, tokens: int, origin: Origin) -> DataError:
        return DataError(
            origin.named.field,
            f"{origin.named.field}: {origin.place}: the record has {tokens} tokens, data.maxLength is "
            f"{self._data.max_length}; shorten it, raise maxLength, or set data.onOverflow to Truncate, Split or Drop",
            reason="RecordTooLong",
        )

    def _write(
        self,
        ids: list[int],
        targets: list[bool],
        origin: Origin,
        truncated: bool,
        *,
        second: int = 0,
        good: bool = False,
        classes: tuple[int, ...] = (),
    ) -> None:
        self._ids.write(np.asarray(ids, dtype=np.int32).tobytes())
        self._targets.write(np.asarray(targets, dtype=np.bool_).tobytes())
        self._ends.append((self._ends[-1] if self._ends else 0) + len(ids))
        self._digests.append(origin.digest)
        self._truncated.append(truncated)
        self._held_out.append(origin.named.held_out)
        self._records.append(self._kept)
        self._sources.append(origin.source)
        self._seconds.append(second)
        self._good.append(good)
        self._classes.extend(classes)
        self._class_ends.append(len(self._classes))
        if origin.group is not None:
            self._groups.append(origin.group)
        if origin.place_in_order is not None:
            self._places.append(origin.place_in_order)

    def finish(self, malformed: int, filtered: int, report: dict[str, Any]) -> int:
        """The number of encoded rows. `report`: what else is to be told of the records."""
        self._ids.flush()
        self._targets.flush()
        self._signatures.flush()
        np.save(self._folder / "ends.npy", np.asarray(self._ends, dtype=np.int64))
        np.save(self._folder / "digests.npy", np.asarray(self._digests, dtype=np.uint64))
        np.save(self._folder / "truncated.npy", np.asarray(self._truncated, dtype=np.bool_))
        np.save(self._folder / "held_out.npy", np.asarray(self._held_out, dtype=np.bool_))
        np.save(self._folder / "records.npy", np.asarray(self._records, dtype=np.int64))
        np.save(self._folder / "sources.npy", np.asarray(self._sources, dtype=np.int64))
        np.save(self._folder / "seconds.npy", np.asarray(self._seconds, dtype=np.int64))
        np.save(self._folder / "good.npy", np.asarray(self._good, dtype=np.bool_))
        np.save(self._folder / "classes.npy", np.asarray(self._classes, dtype=np.int32))
        np.save(self._folder / "class_ends.npy", np.asarray(self._class_ends, dtype=np.int64))
        np.save(self._folder / "places.npy", np.asarray(self._places, dtype=np.float64))
        np.save(self._folder / "groups.npy", np.asarray(self._groups, dtype=np.uint64))
        counts = {
            "records": self.records,
            "malformed": malformed,
            "truncated": self.truncated,
            "dropped": self.dropped,
            "last_turn_only": self.last_turn_only,
            "filtered": filtered,
        }
        (self._folder / "counts.json").write_text(json.dumps(counts))
        (self._folder / "report.json").write_text(json.dumps(report))
        return len(self._ends)
