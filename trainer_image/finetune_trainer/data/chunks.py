"""A stored object as the file that the record readers expect; nothing is kept on disk.

Read from the beginning it is one stream, however long. Whoever jumps (Parquet keeps its index at the end) gets a new
stream from there.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from finetune_artifacts import Entry, Store

_BUFFER = 1 << 20


def as_file(store: Store, entry: Entry) -> io.BufferedReader:
    """Raises ArtifactError, also while it is read, when the object is gone or was replaced."""
    return io.BufferedReader(_Stored(store, entry), _BUFFER)


class _Stored(io.RawIOBase):
    def __init__(self, store: Store, entry: Entry) -> None:
        self._store, self._entry = store, entry
        self._chunks: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._entry.size}[whence]
        target = base + offset
        if target != self._at:
            self._chunks, self._rest, self._at = None, memoryview(b""), target
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._at >= self._entry.size:
            return 0
        if self._chunks is None:
            self._chunks = self._store.open_read(self._entry.path, self._at, self._entry.etag)
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._at += count
        return count
