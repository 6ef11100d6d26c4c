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

from finetune_api.runconfig import RunConfig
from finetune_trainer.common import log
from finetune_trainer.data.encode import Encoder, NotEncodable
from finetune_trainer.data.encodings import Encodings, EncodingsWriter
from finetune_trainer.data.fetch import local_files
from finetune_trainer.data.once import made_once
from finetune_trainer.data.packed import Packed
from finetune_trainer.data.purpose import Kinds, accepted
from finetune_trainer.data.read import BadRecords, DataError, read_source
from finetune_trainer.data.records import content_digest
from finetune_trainer.data.sources import NamedSource, named_sources
from finetune_trainer.data.split import DEFAULT_PERCENT, held_out

_FORMAT = 1
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
    train: int = 0
    validation: int = 0
    target_tokens: int = 0

    @property
    def truncated_percent(self) -> float:
        return 100 * self.truncated / self.records if self.records else 0.0


class Examples(Sequence[Example]):
    """A read-only view of some of the encodings, in the order of the data."""

    def __init__(self, store: Encodings, rows: npt.NDArray[np.int64]) -> None:
        self._store, self._rows = store, rows

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


def load_splits(
    config: RunConfig, folder: Path, tokenizer: Any, heartbeat: Callable[[int], None] | None = None
) -> Splits:
    """Reads what `fetch_data` put into `folder`. `heartbeat` is called with a number of records now and then.

    Raises DataError (66): a malformed record, an overlong one with onOverflow: Error, or nothing left to train on.
    """
    data = config.spec.data
    place = folder / f"encoded-{_key(config, folder, tokenizer)}"
    beat = heartbeat or (lambda _count: None)
    made_once(place, lambda work: _encode(config, folder, work, Encoder(tokenizer), beat), beat)
    store = Encodings(place)
    if data.validation.sources:
        chosen = store.held_out
        shared = np.isin(store.digests, np.unique(store.digests[store.held_out])) & ~store.held_out
    else:
        percent = DEFAULT_PERCENT if data.validation.percent is None else data.validation.percent
        digests = held_out((int(d) for d in store.digests), percent)
        chosen = np.isin(store.digests, np.array(sorted(digests), dtype=np.uint64))
        shared = np.zeros(len(chosen), dtype=np.bool_)
    train, validation = np.flatnonzero(~chosen & ~shared), np.flatnonzero(chosen)
    counts = Counts(
        **store.counts,
        overlapping=int(shared.sum()),
        train=len(train),
        validation=len(validation),
        target_tokens=int(store.targets.sum()),
    )
    if not len(train):
        raise DataError(
            "spec.data.train",
            f"spec.data.train: no record is left to train on: {counts.records} read, {counts.malformed} malformed, "
            f"{counts.dropped} dropped (longer than data.maxLength = {data.max_length}), {counts.validation} held "
            f"out, {counts.overlapping} also among the validation records",
            reason="NoRecords",
        )
    return Splits(Examples(store, train), Examples(store, validation), counts)


def report(counts: Counts, packed: Packed | None = None, why_not: str = "") -> None:
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
        "tokenizer": [tokenizer.name_or_path, len(tokenizer), str(tokenizer.chat_template)],
    }
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()[:16]


def _encode(config: RunConfig, folder: Path, work: Path, encoder: Encoder, heartbeat: Callable[[int], None]) -> None:
    data = config.spec.data
    bad = BadRecords(data.max_bad_records)
    with EncodingsWriter(work, data) as writer:
        for named in named_sources(config):
            files = local_files(folder, named)
            _encode_source(named, files, folder, writer, encoder, bad, heartbeat, accepted(config.spec))
        if writer.finish(bad.count) == 0:
            raise DataError(
                "spec.data.train",
                f"spec.data.train: no record is left to train on: {writer.records} read, {bad.count} malformed, "
                f"{writer.dropped} dropped (data.maxLength is {data.max_length})",
                reason="NoRecords",
            )


def _encode_source(
    named: NamedSource,
    files: list[Path],
    folder: Path,
    writer: EncodingsWriter,
    encoder: Encoder,
    bad: BadRecords,
    heartbeat: Callable[[int], None],
    kinds: Kinds,
) -> None:
    taken = 0
    uri = named.source.uri.rstrip("/")
    for path in files:
        relative = path.relative_to(folder / named.folder).as_posix()
        name = uri if len(files) == 1 and uri.endswith(f"/{relative}") else f"{uri}/{relative}"
        with path.open("rb") as stream:
            for located in read_source(stream, named, name=name, bad=bad, kinds=kinds):
                if named.source.limit is not None and taken >= named.source.limit:
                    return
                try:
                    encoded = encoder.encode(located.record)
                except NotEncodable as error:
                    bad.add(named.field, located.place, str(error))
                    continue
                writer.last_turn_only += encoded.last_turn_only
                writer.add(encoded.ids, encoded.targets, content_digest(located.record), named, located.place)
                taken += 1
                if taken % _BEAT_EVERY == 0:
                    heartbeat(_BEAT_EVERY)
