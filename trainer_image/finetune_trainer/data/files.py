"""One door to every kind of file: what it is, by its first bytes and its name, and the reader that goes with it.

The bytes decide before the name does: a file that begins with a brace is JSON Lines whatever it is called.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from pathlib import PurePosixPath
from typing import BinaryIO

from finetune_api.data import DataFormat, TextUnit
from finetune_trainer.data.csv_file import read_csv
from finetune_trainer.data.json_array import read_array
from finetune_trainer.data.jsonl import read_lines
from finetune_trainer.data.lines import Rows, Unreadable
from finetune_trainer.data.parquet_file import read_parquet
from finetune_trainer.data.text_file import read_text

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_HEAD = 512
_BUFFER = 1 << 20

KINDS: tuple[tuple[str, ...], ...] = (
    (".jsonl",),
    (".parquet",),
    (".jsonl.gz", ".json", ".json.gz"),
    (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    (".txt", ".txt.gz"),
)
"""Name endings, kind by kind. Below a prefix the first kind of which there is a file is read, and no other."""


def open_rows(
    stream: BinaryIO,
    name: str,
    *,
    data_format: DataFormat = DataFormat.AUTO,
    text_unit: TextUnit | None = None,
    budget: int | None = None,
) -> Rows:
    """The documents of one file. With `budget` only about the first so many bytes of it are read.

    The stream must be seekable and stand at its beginning. Raises Unreadable, also while the rows are read.
    """
    head = stream.read(_HEAD)
    stream.seek(0)
    if head.startswith(_PARQUET):
        return read_parquet(stream, budget)
    body, cut, inner = stream, budget is not None, name
    if budget is not None:
        body = io.BufferedReader(_Beginning(body, budget), _BUFFER)
    if head.startswith(_GZIP):
        body = io.BufferedReader(_Unzipped(body, cut), _BUFFER)
        if budget is not None:
            body = io.BufferedReader(_Beginning(body, budget), _BUFFER)
        inner = name.removesuffix(".gz")
        head = body.peek(_HEAD)
        if head.startswith(_PARQUET):
            raise Unreadable("is a gzip-compressed Parquet file; decompress it, Parquet compresses by itself")
    ending = PurePosixPath(inner).suffix.lower()
    begins = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if ending == ".txt" and (begins != b"{" or data_format is DataFormat.TEXT):
        return Rows("line", read_text(body, text_unit or TextUnit.DOCUMENT, cut=cut))
    if ending in (".csv", ".tsv") and begins not in (b"{", b""):
        return read_csv(body, cut=cut)
    if begins == b"[":
        return Rows("record", read_array(body, cut=cut))
    return Rows("line", read_lines(body, cut=cut))


class _Beginning(io.RawIOBase):
    """The first bytes of a stream."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream, self._left = stream, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        found = self._stream.read(min(len(buffer), self._left))
        buffer[: len(found)] = found
        self._left -= len(found)
        return len(found)


class _Unzipped(io.RawIOBase):
    """A gzip file's content; damage is told in words, and with `cut` a missing end is none."""

    def __init__(self, stream: BinaryIO, cut: bool) -> None:
        self._zip, self._cut, self._read = gzip.GzipFile(fileobj=stream), cut, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            found = self._zip.read1(len(buffer))
        except EOFError:
            if self._cut:
                return 0
            raise Unreadable(
                f"is a gzip file without its end ({self._read} bytes could be decompressed); write or upload it again"
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise Unreadable(f"is a damaged gzip file ({error}); write or upload it again") from None
        buffer[: len(found)] = found
        self._read += len(found)
        return len(found)
