"""A .txt file as records: one a file, one a paragraph (blank lines between them) or one a line."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from finetune_api.data import TextUnit
from finetune_trainer.data.jsonl import refuse_other_files
from finetune_trainer.data.lines import MAX_LINE_BYTES, Line, Unreadable


def read_text(stream: BinaryIO, unit: TextUnit, *, cut: bool = False) -> Iterator[Line]:
    """Documents `{"text": …}`, numbered as the lines they begin in. With `cut` the last, unfinished one is left out.

    Raises Unreadable when the file is no text, or one record is longer than 16 MiB.
    """
    begun, number, held, size = 1, 0, [], 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            refuse_other_files(raw)
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if b"\0" in raw:
            raise Unreadable(f"is not text: there is a zero byte in line {number}")
        ends = unit is TextUnit.LINE or (unit is TextUnit.PARAGRAPH and not raw.strip())
        held.append(raw)
        size += len(raw)
        if size > MAX_LINE_BYTES:
            raise Unreadable(
                f"has a text of more than {MAX_LINE_BYTES >> 20} MiB from line {begun} on; "
                "set textUnit to Paragraph or Line, or cut it into several files"
            )
        if ends:
            if not cut or raw.endswith(b"\n"):
                yield from _text(begun, b"".join(held))
            begun, held, size = number + 1, [], 0
    if not cut:
        yield from _text(begun, b"".join(held))


def _text(begun: int, raw: bytes) -> Iterator[Line]:
    if not raw.strip():
        return
    try:
        yield Line(begun, {"text": raw.decode().strip("\r\n")}, None)
    except UnicodeDecodeError as error:
        line = begun + raw.count(b"\n", 0, error.start)
        yield Line(begun, None, f"line {line} is not UTF-8 (byte 0x{raw[error.start]:02x}); save the file as UTF-8")
