"""JSON Lines as they are found in the wild: byte order marks, CRLF, blank lines, broken bytes, endless lines.

Every line is answered with a document or with a reason. A line is read in bounded memory, so that a file that is not
JSONL at all (one giant array, a Parquet file) is refused instead of filling the pod's memory.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from finetune_trainer.data.lines import MAX_LINE_BYTES, Line, Unreadable
from finetune_trainer.data.validate import BadRecord

_MAGIC = {
    codecs.BOM_UTF16_LE: "is UTF-16 text; save it as UTF-8",
    codecs.BOM_UTF16_BE: "is UTF-16 text; save it as UTF-8",
    b"\x1f\x8b": "is gzip-compressed; decompress it first",
    b"PAR1": "is a Parquet file; expected JSON Lines",
    b"PK\x03\x04": "is a zip archive; unpack it first",
    b"\x28\xb5\x2f\xfd": "is zstd-compressed; decompress it first, or compress it with gzip",
    b"BZh": "is bzip2-compressed; decompress it first, or compress it with gzip",
    b"\xfd7zXZ\x00": "is xz-compressed; decompress it first, or compress it with gzip",
}


def read_lines(stream: BinaryIO, *, cut: bool = False, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """Every non-blank line. With `cut` the stream ends in the middle of a file: its last, unfinished line is left out.

    Raises Unreadable when the first bytes say that this is no text file.
    """
    number = 0
    while raw := stream.readline(max_line_bytes + 1):
        number += 1
        if number == 1:
            refuse_other_files(raw)
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if not raw.endswith(b"\n"):
            too_long = len(raw) > max_line_bytes
            ended = _skip_rest(stream, max_line_bytes) if too_long else False
            if cut and not ended:
                return
            if too_long:
                yield Line(number, None, f"the line is longer than {max_line_bytes >> 20} MiB")
                continue
        if not raw.strip():
            continue
        try:
            yield Line(number, parse(raw), None)
        except BadRecord as error:
            yield Line(number, None, str(error))


def parse(raw: bytes) -> dict[str, Any]:
    """The JSON object on one line. Raises BadRecord with the column where parsing failed."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BadRecord(
            f"byte {error.start + 1} of the line (0x{raw[error.start]:02x}) is not UTF-8; save the file as UTF-8"
        ) from None
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise BadRecord(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise BadRecord("not usable: the JSON is nested too deeply") from None
    if isinstance(document, list):
        raise BadRecord("expected a JSON object, found an array; write one object per line, without a list around them")
    if not isinstance(document, dict):
        raise BadRecord(f"expected a JSON object, found {text.strip():.40}")
    return document


def _skip_rest(stream: BinaryIO, chunk: int) -> bool:
    """Read to the end of an over-long line; False when the stream ended first."""
    while rest := stream.readline(chunk):
        if rest.endswith(b"\n"):
            return True
    return False


def refuse_other_files(start: bytes) -> None:
    """Raises Unreadable when the first bytes are those of a known kind of file that is not text."""
    for magic, words in _MAGIC.items():
        if start.startswith(magic):
            raise Unreadable(words)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadRecord(
                    f"the key {key!r:.60} appears twice in one object; which of the two is meant is unclear"
                )
            seen.add(key)
    return document


def _refuse_constant(name: str) -> Any:
    raise BadRecord(f"not JSON: the value {name} is not allowed; write null or a string")
