"""Everything the pod's processes print goes to the container's log as before, to a rotating file, and its end is kept
for the last words. The ranks inherit the pipe, so nothing has to be configured in them."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

TAIL_BYTES = 48 << 10
FILE_BYTES = 16 << 20


class Tee:
    def __init__(self, path: Path, *, tail_bytes: int = TAIL_BYTES, file_bytes: int = FILE_BYTES) -> None:
        self._path, self._tail_bytes, self._file_bytes = path, tail_bytes, file_bytes
        self._tail = bytearray()
        self._lock = threading.Lock()
        self._file = path.open("wb")
        self._size = 0
        self._saved: list[int] = []
        self._thread: threading.Thread | None = None

    def install(self) -> None:
        """Takes over file descriptors 1 and 2."""
        reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = [os.dup(1), os.dup(2)]
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(writer)
        self._thread = threading.Thread(target=self._pump, args=(reader, self._saved[0]), name="tee", daemon=True)
        self._thread.start()

    def restore(self, seconds: float) -> None:
        """Gives the descriptors back and waits for what is still in the pipe; a rank that lives on cannot delay it
        for longer than `seconds`."""
        sys.stdout.flush()
        sys.stderr.flush()
        for number, saved in enumerate(self._saved, start=1):
            os.dup2(saved, number)
        self._saved = []
        if self._thread:
            self._thread.join(seconds)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def tail(self) -> str:
        with self._lock:
            return bytes(self._tail).decode(errors="replace")

    def add(self, chunk: bytes) -> None:
        with self._lock:
            self._tail += chunk
            del self._tail[: max(0, len(self._tail) - self._tail_bytes)]
            if self._size + len(chunk) > self._file_bytes:
                self._file.close()
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                self._file, self._size = self._path.open("wb"), 0
            self._file.write(chunk)
            self._file.flush()
            self._size += len(chunk)

    def _pump(self, reader: int, out: int) -> None:
        while chunk := os.read(reader, 1 << 16):
            view = memoryview(chunk)
            while view:
                view = view[os.write(out, view) :]
            try:
                self.add(chunk)
            except OSError:
                continue
        os.close(reader)
