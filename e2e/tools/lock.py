"""One at a time per user: two builders would fight for the cores, two bring-ups for the same addresses."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.tools.places import cache_dir
from e2e.tools.progress import Progress


@contextmanager
def exclusively(name: str, progress: Progress) -> Iterator[None]:
    """Hold the lock of that name; the kernel frees it when its holder dies, however it dies."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step(f"wait for another process that works on the {name}"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
