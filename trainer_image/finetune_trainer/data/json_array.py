"""A JSON file that is one array of records, read record by record.

The whole array is never in memory, and one broken record does not hide the next: the borders between records are found
by counting brackets outside of strings, and only then is each one parsed, by the code that parses a line of JSONL.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from finetune_trainer.data.jsonl import parse
from finetune_trainer.data.lines import MAX_LINE_BYTES, Line, Unreadable
from finetune_trainer.data.parts import BadRecord

_CHUNK = 1 << 20
_OUTSIDE = re.compile(rb'["{}\[\],]')
_INSIDE = re.compile(rb'["\\]')


def read_array(stream: BinaryIO, *, cut: bool = False, max_bytes: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """Every record; with `cut` the stream ends in the middle of a file, and the record it ends in is left out.

    Raises Unreadable when the array does not end, or something follows it.
    """
    for number, (begun, raw) in enumerate(_items(stream, cut, max_bytes), start=1):
        try:
            yield Line(number, parse(raw), None)
        except BadRecord as error:
            yield Line(number, None, f"{error} (the record begins in line {begun})")


def _items(stream: BinaryIO, cut: bool, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """(line it begins in, bytes) of everything between the commas of the outermost array."""
    buffer = stream.read(_CHUNK).removeprefix(codecs.BOM_UTF8).lstrip()
    position = 1  # after the bracket
    depth, inside, line, count = 1, False, 1, 0
    while True:
        found = (_INSIDE if inside else _OUTSIDE).search(buffer, position)
        if found is None or (inside and found.group() == b"\\" and found.end() == len(buffer)):
            if len(buffer) > max_bytes:
                raise Unreadable(f"holds no record that ends within {max_bytes >> 20} MiB after record {count}")
            more = stream.read(_CHUNK)
            if more:
                position = found.start() if found else len(buffer)
                buffer += more
                continue
            if cut:
                return
            raise Unreadable(
                f"ends in the middle of record {count + 1}: the array was written or uploaded by half; write it again"
            )
        token, position = found.group(), found.end()
        if inside:
            inside = token == b"\\"
            position += token == b"\\"
        elif token == b'"':
            inside = True
        elif token in b"{[":
            depth += 1
        elif token in b"}]":
            depth -= 1
        if inside or not (depth == 0 or (depth == 1 and token == b",")):
            continue
        item = buffer[1 : found.start()]
        if item.strip() or depth:
            count += 1
            blank = item[: len(item) - len(item.lstrip())]
            yield line + blank.count(b"\n"), item.strip()
        if depth == 0:
            rest = buffer[position:].strip() or stream.read(_CHUNK).strip()
            if rest:
                raise Unreadable(f"goes on after the array's end, behind record {count}: {rest[:40]!r}")
            return
        line += item.count(b"\n")
        buffer, position = buffer[found.start() :], 1
