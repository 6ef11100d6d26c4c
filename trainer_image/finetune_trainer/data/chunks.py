"""A stored object, streamed in chunks, as the file that the record readers expect; nothing is kept on disk."""

from __future__ import annotations

import io
from collections.abc import Iterator


def as_file(chunks: Iterator[bytes], limit: int) -> io.BufferedReader:
    """The first `limit` bytes of the chunks."""
    return io.BufferedReader(_Chunks(chunks, limit), 1 << 20)


class _Chunks(io.RawIOBase):
    def __init__(self, chunks: Iterator[bytes], limit: int) -> None:
        self._chunks, self._left, self._rest = chunks, limit, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None or self._left <= 0:
                return 0
            self._rest = memoryview(chunk)[: self._left]
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._left -= count
        return count
