"""Records out of files, with a tolerance for bad ones that is counted over the whole job.

The format of a file is decided by its first usable record (or by the spec); a record of another format further down
is a mistake of whoever concatenated the files and is reported as one, never guessed around.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from finetune_api.data import DataFormat, TextUnit
from finetune_api.exitcodes import ExitCode
from finetune_trainer.common.errors import RunError
from finetune_trainer.data.files import open_rows
from finetune_trainer.data.lines import Rows, Unreadable
from finetune_trainer.data.parts import BadRecord
from finetune_trainer.data.purpose import Kinds, require
from finetune_trainer.data.records import Labeled, Record
from finetune_trainer.data.shape import Shape, from_cells, shape_of
from finetune_trainer.data.sources import NamedSource
from finetune_trainer.data.validate import detect, validate

_SHOWN = 3


class DataError(RunError):
    """Data that is missing or invalid (exit 66); `field` is the spec's path of the source."""

    def __init__(self, field: str, message: str, *, reason: str = "InvalidData") -> None:
        super().__init__(ExitCode.DATA_INVALID, message, reason=reason)
        self.field = field


@dataclass
class BadRecords:
    """Counts malformed records of one job and ends it when there are more than `allowed`."""

    allowed: int
    found: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, source: str, place: str, reason: str) -> None:
        """Raises DataError when the tolerance is used up."""
        self.count += 1
        words = f"{place}: {reason}"
        if len(self.found) < _SHOWN:
            self.found.append(words)
        if self.count <= self.allowed:
            return
        if self.allowed == 0:
            raise DataError(source, f"{source}: {words}")
        raise DataError(
            source,
            f"{source}: more than data.maxBadRecords = {self.allowed} malformed records. "
            f"The first: {'; '.join(self.found)}. The last: {words}",
        )


@dataclass(frozen=True, slots=True)
class Located:
    """A record and the place it came from, `train.jsonl line 17`."""

    record: Record
    place: str
    document: dict[str, Any]
    """As the file has it."""


def read_source(
    stream: BinaryIO, named: NamedSource, *, name: str, bad: BadRecords, kinds: Kinds | None, budget: int | None = None
) -> Iterator[Located]:
    """The records of one of a source's files, read as its place in the spec says; see `read_records`."""
    source = named.source
    return read_records(
        stream,
        name=name,
        source=named.field,
        data_format=source.format,
        bad=bad,
        shape=shape_of(source),
        text_unit=source.text_unit,
        kinds=kinds,
        budget=budget,
    )


def read_records(
    stream: BinaryIO,
    *,
    name: str,
    source: str,
    data_format: DataFormat,
    bad: BadRecords,
    shape: Shape | None = None,
    text_unit: TextUnit | None = None,
    kinds: Kinds | None = None,
    budget: int | None = None,
) -> Iterator[Located]:
    """Every good record of one file; bad ones go to `bad`.

    `name` is the file as the user knows it, `source` the spec's path (`spec.data.train[0]`). With `budget` the stream
    is longer, and only about so many bytes of it are read. `kinds`: the record types that are of use; None: all.
    """
    try:
        rows = open_rows(stream, name, data_format=data_format, text_unit=text_unit, budget=budget)
        shape = shape or Shape(data_format)
        if data_format is DataFormat.AUTO and kinds == (Labeled,):
            # The keys are those of raw text, too: what the job is for decides.
            shape = replace(shape, data_format=DataFormat.LABELED)
        yield from _records(rows, name, source, shape, bad, kinds)
    except Unreadable as error:
        raise DataError(source, f"{source}: {name} {error}") from None


def _records(
    rows: Rows, name: str, source: str, shape: Shape, bad: BadRecords, kinds: Kinds | None
) -> Iterator[Located]:
    shape.check(rows)
    expected: DataFormat | None = None if shape.data_format is DataFormat.AUTO else shape.data_format
    decided_at = 0
    for line in rows.lines:
        place = f"{name} {rows.unit} {line.number}"
        if line.document is None:
            bad.add(source, place, line.problem or "")
            continue
        try:
            document = line.document if shape.plain else shape.apply(line.document)
            if rows.cells:
                document = from_cells(document)
            if expected is None:
                found = detect(document)
                record = validate(document, found)
                expected, decided_at = found, line.number
            else:
                if decided_at:
                    _same_format(document, expected, f"{rows.unit} {decided_at}")
                record = validate(document, expected)
            if kinds:
                require(record, kinds)
        except BadRecord as error:
            bad.add(source, place, str(error))
            continue
        yield Located(record, place, line.document)


def _same_format(document: dict[str, object], expected: DataFormat, decided_at: str) -> None:
    found = detect(document)
    if found is expected:
        return
    raise BadRecord(
        f"looks like {found}, but the file began as {expected} ({decided_at}); "
        "keep one format per file, in sources of their own"
    )
