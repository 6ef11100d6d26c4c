"""CSV and TSV: a header, then one record a row.

A row that has more or fewer cells than the header is never guessed at: a separator inside an unquoted text moves every
cell after it, and the model would be trained on the wrong columns.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from typing import BinaryIO

from finetune_trainer.data.lines import MAX_LINE_BYTES, Line, Rows, Unreadable

_SEPARATORS = (",", ";", "\t")


def read_csv(stream: BinaryIO, *, cut: bool = False) -> Rows:
    """The rows below the header, numbered as the lines they begin in. With `cut` the last one is left out.

    Raises Unreadable when there is no usable header.
    """
    first = stream.readline(MAX_LINE_BYTES).removeprefix(codecs.BOM_UTF8)
    try:
        head = first.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"has a header that is not UTF-8 (byte {error.start + 1} of line 1); save the file as UTF-8"
        ) from None
    separator = max(_SEPARATORS, key=head.count)
    csv.field_size_limit(MAX_LINE_BYTES)
    try:
        header = [name.strip() for name in next(csv.reader([head], delimiter=separator, strict=True), [])]
    except csv.Error as error:
        raise Unreadable(f"has a header that is no CSV: {error}") from None
    twice = {name for name in header if name and header.count(name) > 1}
    if twice:
        raise Unreadable(f"names the column {sorted(twice)[0]!r} twice in its header; rename one of them")
    return Rows("line", _rows(stream, header, separator, cut), tuple(name for name in header if name), cells=True)


def _rows(stream: BinaryIO, header: list[str], separator: str, cut: bool) -> Iterator[Line]:
    # A byte that is no UTF-8 stays what it is until its row is looked at, so that only that row is lost.
    lines = (raw.decode(errors="surrogateescape") for raw in iter(lambda: stream.readline(MAX_LINE_BYTES), b""))
    reader = csv.reader(lines, delimiter=separator, strict=True)
    held: Line | None = None
    while True:
        number = reader.line_num + 2
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if "unexpected end" in str(error):
                if cut:
                    return
                raise Unreadable(f"opens a quote in the row of line {number} and never closes it") from None
            if "field larger" in str(error):
                raise Unreadable(
                    f"has a cell of more than {MAX_LINE_BYTES >> 20} MiB in the row of line {number}: is a quote open?"
                ) from None
            found = Line(number, None, f"not CSV: {error}; put text with quotes in it between quotes, and double them")
        else:
            if not cells:
                continue
            found = _row(number, cells, header, separator)
        if held:
            yield held
        held = found
    if held and not cut:
        yield held


def _row(number: int, cells: list[str], header: list[str], separator: str) -> Line:
    if len(cells) != len(header):
        return Line(
            number,
            None,
            f"the row has {len(cells)} cells, the header {len(header)}; put text that holds {separator!r} in quotes",
        )
    for name, cell in zip(header, cells, strict=True):
        if not cell.isascii() and any("\udc80" <= c <= "\udcff" for c in cell):
            return Line(number, None, f"the column {name!r:.60} is not UTF-8; save the file as UTF-8")
    return Line(number, {name: cell for name, cell in zip(header, cells, strict=True) if name}, None)
