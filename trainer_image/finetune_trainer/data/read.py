"""Records out of files, with a tolerance for bad ones that is counted over the whole job.

The format of a file is decided by its first usable record (or by the spec); a record of another format further down
is a mistake of whoever concatenated the files and is reported as one, never guessed around.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from finetune_api.data import DataFormat
from finetune_api.exitcodes import ExitCode
from finetune_trainer.common.errors import RunError
from finetune_trainer.data.jsonl import NotJsonLines, read_lines
from finetune_trainer.data.records import Record
from finetune_trainer.data.validate import BadRecord, detect, validate

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


def read_records(
    stream: BinaryIO, *, name: str, source: str, data_format: DataFormat, bad: BadRecords, cut: bool = False
) -> Iterator[Located]:
    """Every good record of one file; bad ones go to `bad`.

    `name` is the file as the user knows it, `source` the spec's path (`spec.data.train[0]`). With `cut` the stream
    is the beginning of a larger file.
    """
    expected: DataFormat | None = None if data_format is DataFormat.AUTO else data_format
    decided_at = 0
    try:
        for line in read_lines(stream, cut=cut):
            place = f"{name} line {line.number}"
            if line.document is None:
                bad.add(source, place, line.problem or "")
                continue
            try:
                if expected is None:
                    found = detect(line.document)
                    record = validate(line.document, found)
                    expected, decided_at = found, line.number
                else:
                    if decided_at:
                        _same_format(line.document, expected, decided_at)
                    record = validate(line.document, expected)
            except BadRecord as error:
                bad.add(source, place, str(error))
                continue
            yield Located(record, place)
    except NotJsonLines as error:
        raise DataError(source, f"{source}: {name} {error}") from None


def _same_format(document: dict[str, object], expected: DataFormat, decided_at: int) -> None:
    found = detect(document)
    if found is not expected:
        raise BadRecord(
            f"looks like {found}, but the file began as {expected} (line {decided_at}); "
            "keep one format per file, in sources of their own"
        )
