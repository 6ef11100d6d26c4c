"""What every reader of a file gives: one document, or the reason why there is none, per line, row or record.

The readers differ in how they find the next document; whoever reads records knows only this page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_LINE_BYTES = 16 << 20
"""Of one record as it stands in the file: what is longer is no record, and would fill the pod's memory."""


class Unreadable(ValueError):
    """The whole file is of no use; the text completes the sentence `<file> …`."""


@dataclass(frozen=True, slots=True)
class Line:
    """A non-blank line, row or record: its number (from 1) and either its document or the reason there is none."""

    number: int
    document: dict[str, Any] | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Rows:
    """The documents of one file. `unit` is what their numbers count: line, row, record."""

    unit: str
    lines: Iterator[Line]
    columns: tuple[str, ...] | None = None
    """Of a table; None where every record has keys of its own."""
    cells: bool = False
    """Every value is text, as in CSV."""
