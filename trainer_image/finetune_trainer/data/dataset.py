"""The token ids of all records as memory-mapped arrays, split into training and held-out examples.

Every process of every rank maps the same files in the same order, so a record has the same number whatever the world
size, and a set larger than memory is no trouble. Encoding happens once per pod: the result is renamed into place
whole, under a name that depends on the data, the options and the tokenizer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune_api.data import Data
from finetune_api.objective import Head, ObjectiveType, head_of, objective_of
from finetune_api.runconfig import RunConfig
from finetune_trainer.common import log
from finetune_trainer.data.choose import choose
from finetune_trainer.data.columns import columns_of
from finetune_trainer.data.encode import Encoder, NotEncodable
from finetune_trainer.data.encodings import Encodings, EncodingsWriter, Origin
from finetune_trainer.data.fetch import local_files
from finetune_trainer.data.labels import classes
from finetune_trainer.data.minhash import signature
from finetune_trainer.data.once import made_once
from finetune_trainer.data.packed import Packed
from finetune_trainer.data.parts import BadRecord
from finetune_trainer.data.purpose import Kinds, accepted
from finetune_trainer.data.read import BadRecords, DataError, Located, read_source
from finetune_trainer.data.records import Preference, Rated, answers, content_digest
from finetune_trainer.data.refine import Refiner, words_of
from finetune_trainer.data.sources import NamedSource, named_sources
from finetune_trainer.data.wrapped import Wrapped

_FORMAT = 6
_BEAT_EVERY = 256

Example = tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]
"""(ids, targets) of equal length: whether the loss is taken on predicting that id."""


@dataclass(frozen=True)
class Counts:
    """What became of the records, for the log and for people."""

    records: int
    malformed: int
    truncated: int
    dropped: int
    """Too long, or nothing to learn left after truncation."""
    last_turn_only: int
    overlapping: int
    """Training records left out because the same record is held out by a validation source."""
    filtered: int = 0
    duplicates: int = 0
    near_duplicates: int = 0
    train: int = 0
    """Rows of one epoch: records, or their parts, as often as weights and balance repeat them."""
    validation: int = 0
    target_tokens: int = 0
    replayed: int = 0
    """Of the training rows, those of spec.retention.replay."""

    @property
    def truncated_percent(self) -> float:
        return 100 * self.truncated / self.records if self.records else 0.0


class Examples(Sequence[Example]):
    """A read-only view of some of the encodings, in the order of the data."""

    def __init__(self, store: Encodings, rows: npt.NDArray[np.int64]) -> None:
        self._store, self._rows = store, rows

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Their numbers among the encodings."""
        return self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Examples(self._store, self._rows[index])
        row = int(self._rows[index])
        start = int(self._store.ends[row - 1]) if row else 0
        end = int(self._store.ends[row])
        return self._store.ids[start:end], self._store.targets[start:end]

    def is_truncated(self, index: int) -> bool:
        return bool(self._store.truncated[self._rows[index]])

    def second(self, index: int) -> int:
        """Where a pair's rejected answer begins; 0 where there is none."""
        return int(self._store.seconds[self._rows[index]])

    def good(self, index: int) -> bool:
        """The verdict on a rated answer."""
        return bool(self._store.good[self._rows[index]])

    def classes(self, index: int) -> npt.NDArray[np.int32]:
        """Numbers of a labeled text's labels, ascending."""
        row = int(self._rows[index])
        start = int(self._store.class_ends[row - 1]) if row else 0
        return self._store.classes[start : int(self._store.class_ends[row])]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of every example."""
        starts = np.concatenate(([0], self._store.ends[:-1]))
        lengths: npt.NDArray[np.int64] = (self._store.ends - starts)[self._rows]
        return lengths

    @property
    def digests(self) -> npt.NDArray[np.uint64]:
        """Of the content of every example."""
        digests: npt.NDArray[np.uint64] = self._store.digests[self._rows]
        return digests


@dataclass(frozen=True)
class Splits:
    train: Examples
    validation: Examples
    counts: Counts
    store: Encodings


def load_splits(
    config: RunConfig, folder: Path, tokenizer: Any, heartbeat: Callable[[int], None] | None = None
) -> Splits:
    """Reads what `fetch_data` put into `folder`. `heartbeat` is called with a number of records now and then.

    Raises DataError (66): a malformed record, an overlong one with onOverflow: Error, or nothing left to train on.
    """
    data = config.spec.data
    place = folder / f"encoded-{_key(config, folder, tokenizer)}"
    beat = heartbeat or (lambda _count: None)
    made_once(place, lambda work: _encode(config, folder, work, Encoder(tokenizer, data.train_on), beat), beat)
    store = Encodings(place)
    replay = config.spec.retention.replay if config.spec.retention else None
    choice = choose(store, data, replay)
    train, validation = choice.train, choice.validation
    counts = Counts(
        **store.counts,
        overlapping=choice.overlapping,
        duplicates=choice.duplicates,
        near_duplicates=choice.near_duplicates,
        train=len(train),
        validation=len(validation),
        target_tokens=int(store.targets.sum()),
        replayed=choice.replayed,
    )
    if replay and not choice.replayed and len(train):
        raise DataError(
            "spec.retention.replay.data",
            f"spec.retention.replay.data: {replay.data.uri} holds no record to replay that is not held out, dropped "
            f"(longer than data.maxLength = {data.max_length}), filtered out or a duplicate; name other records, or "
            "remove spec.retention.replay",
            reason="NoRecords",
        )
    if not len(train):
        raise DataError(
            "spec.data.train",
            f"spec.data.train: no record is left to train on: {counts.records} read, {counts.malformed} malformed, "
            f"{counts.dropped} dropped (longer than data.maxLength = {data.max_length}), {counts.filtered} filtered "
            f"out, {counts.duplicates + counts.near_duplicates} duplicates, {counts.validation} held out, "
            f"{counts.overlapping} also among the validation records",
            reason="NoRecords",
        )
    return Splits(Examples(store, train), Examples(store, validation), counts, store)


def report(counts: Counts, packed: Packed | Wrapped | None = None, why_not: str = "") -> None:
    """One line with the counts, and a warning for each thing a user would want to know before the loss curve."""
    log.event("data encoded", **asdict(counts), truncatedPercent=round(counts.truncated_percent, 1))
    if packed:
        log.event(
            "data packed",
            **asdict(packed.counts),
            efficiencyPercent=round(packed.counts.efficiency_percent, 1),
            truncatedPercent=round(counts.truncated_percent, 1),
        )
    elif why_not:
        log.event("data is not packed", why=why_not)
    if counts.truncated or counts.dropped:
        log.warning(
            "records longer than data.maxLength were cut; raise maxLength or shorten them",
            truncated=counts.truncated,
            dropped=counts.dropped,
        )
    if counts.last_turn_only:
        log.warning(
            "the chat template rewrites earlier turns: of these records only the last assistant turn is trained",
            records=counts.last_turn_only,
        )
    if counts.overlapping:
        log.warning("training records that are also held out were left out", records=counts.overlapping)


def _key(config: RunConfig, folder: Path, tokenizer: Any) -> str:
    files = [
        [str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns]
        for named in named_sources(config)
        for path in local_files(folder, named)
    ]
    form = {
        "format": _FORMAT,
        "data": config.spec.data.model_copy(update={"packing": None}).to_wire(),
        "files": files,
        "whole": _whole(config),
        "head": asdict(head) if (head := head_of(config.spec)) else None,
        "tokenizer": [tokenizer.name_or_path, len(tokenizer), str(tokenizer.chat_template)],
    }
    if config.spec.retention and config.spec.retention.replay:
        form["replay"] = config.spec.retention.replay.data.to_wire()
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()[:16]


def _encode(config: RunConfig, folder: Path, work: Path, encoder: Encoder, heartbeat: Callable[[int], None]) -> None:
    data = config.spec.data
    bad, refiner = BadRecords(data.max_bad_records), Refiner(data)
    with EncodingsWriter(work, data, whole=_whole(config)) as writer:
        into = Into(writer, encoder, refiner, bad, accepted(config.spec), data, heartbeat, head_of(config.spec))
        for number, named in enumerate(named_sources(config)):
            into.source(number, named, local_files(folder, named), folder)
        filtered = sum(refiner.left_out.values())
        told = {"leftOut": refiner.left_out, "cleaned": refiner.cleaned, "malformed": bad.found}
        if writer.finish(bad.count, filtered, told) == 0:
            raise DataError(
                "spec.data.train",
                f"spec.data.train: no record is left to train on: {writer.records + filtered} read, {bad.count} "
                f"malformed, {writer.dropped} dropped (data.maxLength is {data.max_length}), {filtered} filtered out",
                reason="NoRecords",
            )


@dataclass(frozen=True)
class Into:
    """Brings records from files into encodings."""

    writer: EncodingsWriter
    encoder: Encoder
    refiner: Refiner
    bad: BadRecords
    kinds: Kinds
    data: Data
    heartbeat: Callable[[int], None]
    head: Head | None = None

    def source(self, number: int, named: NamedSource, files: list[Path], folder: Path) -> None:
        taken = 0
        uri = named.source.uri.rstrip("/")
        for path in files:
            relative = path.relative_to(folder / named.folder).as_posix()
            name = uri if len(files) == 1 and uri.endswith(f"/{relative}") else f"{uri}/{relative}"
            with path.open("rb") as stream:
                for located in read_source(stream, named, name=name, bad=self.bad, kinds=self.kinds):
                    if named.source.limit is not None and taken >= named.source.limit:
                        return
                    if not self._record(number, named, located):
                        continue
                    taken += 1
                    if taken % _BEAT_EVERY == 0:
                        self.heartbeat(_BEAT_EVERY)

    def _record(self, number: int, named: NamedSource, located: Located) -> bool:
        """Whether it counts for the source's limit."""
        try:
            record = self.refiner.apply(located.record)
            if record is None:
                return False
            group, place = columns_of(located.document, self.data, named)
            numbers = classes(record, self.head)
            encoded = [self.encoder.encode(answer) for answer in answers(record)]
        except (NotEncodable, BadRecord) as error:
            self.bad.add(named.field, located.place, str(error))
            return False
        near = self.data.dedup and self.data.dedup.near
        marks = signature(words_of(record)) if near else None
        self.writer.last_turn_only += any(answer.last_turn_only for answer in encoded)
        origin = Origin(named, number, located.place, content_digest(record), group, marks, place)
        if isinstance(record, Preference):
            self.writer.add_pair(encoded[0], encoded[1], origin)
        else:
            good = record.good if isinstance(record, Rated) else None
            self.writer.add(encoded[0].ids, encoded[0].targets, origin, good=good, classes=numbers)
        return True


def _whole(config: RunConfig) -> bool:
    """Raw text is cut into rows later, and loses nothing by its length."""
    return objective_of(config.spec).type is ObjectiveType.PRETRAIN
