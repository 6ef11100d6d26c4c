"""A folder of derived files, made once per pod and never trusted blindly.

The ranks of a pod all need the same encodings: the first to get the lock makes them, the others wait and keep their
hearts beating. The folder is renamed into place whole. A table of digests goes with it: scratch volumes outlive a
container that died in mid-write, and a flipped bit would train on garbage without a word, so whoever finds the folder
there already compares it, and makes it anew when it differs.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune_artifacts.digest import Hasher, digest_file
from finetune_trainer.common import log

_DIGESTS = "digests.json"
_CHUNK = 8 << 20
_POLL_SECONDS = 0.05


def made_once(place: Path, make: Callable[[Path], None], heartbeat: Callable[[int], None]) -> None:
    """Afterwards `place` holds what `make(folder)` writes, verified. `heartbeat` is called with 0 while waiting."""
    with _locked(place.with_name(f".{place.name}.lock"), heartbeat):
        if place.is_dir():
            wrong = _differs(place, heartbeat)
            if wrong is None:
                return
            log.warning("cached data is damaged; it is made anew", folder=place.name, cause=wrong)
            shutil.rmtree(place)
        work = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        try:
            make(work)
            table = {path.name: _digest(path, heartbeat) for path in sorted(work.iterdir())}
            (work / _DIGESTS).write_text(json.dumps(table))
            work.rename(place)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def digest_of(place: Path) -> str:
    """One digest for all that is in the folder."""
    return digest_file(place / _DIGESTS)


@contextmanager
def _locked(path: Path, heartbeat: Callable[[int], None]) -> Iterator[None]:
    """A lock that ends with the process that holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                heartbeat(0)
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(handle)


def _differs(place: Path, heartbeat: Callable[[int], None]) -> str | None:
    """What is wrong with the folder, in words."""
    try:
        table: dict[str, str] = json.loads((place / _DIGESTS).read_text())
    except (OSError, ValueError):
        return f"{_DIGESTS} is missing or not readable"
    if present := {path.name for path in place.iterdir()} ^ {*table, _DIGESTS}:
        return f"missing or unknown: {', '.join(sorted(present))}"
    changed = (name for name, digest in table.items() if _digest(place / name, heartbeat) != digest)
    return next((f"{name} was changed" for name in changed), None)


def _digest(path: Path, heartbeat: Callable[[int], None]) -> str:
    hasher = Hasher("xxh3")
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
            heartbeat(0)
    return hasher.text
