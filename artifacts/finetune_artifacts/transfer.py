"""Moving files: bounded memory, resumption, verification.

A pod that fetches 16 GB may be killed at any byte. What it had is in `<file>.part`, with `<file>.part.tag` naming
the stored version that it belongs to; the next run hashes the part and asks for the rest. Only a file whose size
and digest are right ever gets its final name. A part that turns out wrong (torn by a power cut) is fetched anew
once before the stored object is blamed.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from .digest import CHUNK, Algorithm, FileDigest, Hasher, algorithm_of, digest_file
from .errors import ArtifactError, DigestMismatch, NotFound, Unreachable

if TYPE_CHECKING:
    from .base import Entry, Progress, Store

_ATTEMPTS = 3
_MAX_PARTS = 9_000
T = TypeVar("T")
R = TypeVar("R")


def part_size(size: int, smallest: int) -> int:
    """Bytes per part, such that an object of `size` stays under S3's limit of 10,000 parts."""
    return max(smallest, -(-size // _MAX_PARTS))


def _silent(count: int) -> None:
    return


def upload_file(
    store: "Store",
    local: Path,
    path: str,
    *,
    algo: Algorithm = "xxh3",
    progress: "Progress | None" = None,
    in_flight: int | None = None,
) -> FileDigest:
    """Store a local file in bounded memory; the digest is of the bytes that were sent."""
    report = progress or _silent
    try:
        before = local.stat()
        if not stat.S_ISREG(before.st_mode):
            raise ArtifactError(str(local), "upload", "it is not a regular file", "name a file")
        for attempt in range(_ATTEMPTS):
            hasher = Hasher(algo)
            sent = 0

            def chunks(file: BinaryIO, hasher: Hasher = hasher) -> Iterator[bytes]:
                nonlocal sent
                # No further than it was at first: a log that grows as fast as it is read would never end.
                while chunk := file.read(min(CHUNK, before.st_size - sent)):
                    hasher.update(chunk)
                    sent += len(chunk)
                    report(len(chunk))
                    yield chunk

            store.assert_reachable()
            try:
                with local.open("rb") as file:
                    store.write_stream(
                        path,
                        chunks(file),
                        before.st_size,
                        in_flight=in_flight or store.options.parts_in_flight,
                    )
                break
            except Unreachable:
                report(-sent)
                if attempt + 1 == _ATTEMPTS:
                    raise
                time.sleep(store.options.backoff(attempt))
        after = local.stat()
    except OSError as error:
        raise ArtifactError(str(local), "upload", error.strerror or str(error), "check the file") from error
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise ArtifactError(str(local), "upload", "it changed while it was read", "upload it again at rest")
    return FileDigest(path, before.st_size, hasher.text)


def _valid(local: Path, size: int | None, digest: str) -> bool:
    if not local.is_file() or (size is not None and local.stat().st_size != size):
        return False
    return digest_file(local, algorithm_of(digest)) == digest


def download_file(
    store: "Store",
    path: str,
    local: Path,
    *,
    size: int | None = None,
    digest: str | None = None,
    algo: Algorithm = "xxh3",
    progress: "Progress | None" = None,
) -> FileDigest:
    """Fetch an object; `<local>.part` of an earlier run is continued. `local` appears only when valid.

    An existing `local` that matches `digest` is kept. `algo` is what the answer carries when no `digest` is given.
    """
    from .local import fsync_dir, translated

    report = progress or _silent
    with translated(str(local), "write"):
        if digest is not None and _valid(local, size, digest):
            found = local.stat().st_size
            report(found)
            return FileDigest(path, found, digest)
        local.parent.mkdir(parents=True, exist_ok=True)
        part, tag = local.with_name(local.name + ".part"), local.with_name(local.name + ".part.tag")
        while True:
            entry = store.head(path)
            if size is not None and entry.size != size:
                raise DigestMismatch(store.uri_of(path), f"{size} bytes", f"{entry.size} bytes")
            hasher = Hasher(algorithm_of(digest) if digest else algo)
            resumed = _fetch(store, entry, part, tag, hasher, report)
            if digest is None or hasher.text == digest:
                break
            part.unlink()
            if not resumed:
                raise DigestMismatch(store.uri_of(path), digest, hasher.text)
            report(-entry.size)
        part.replace(local)
        tag.unlink(missing_ok=True)
        fsync_dir(local.parent)
    return FileDigest(path, entry.size, hasher.text)


def _fetch(store: "Store", entry: "Entry", part: Path, tag: Path, hasher: Hasher, report: "Progress") -> bool:
    """Complete `part`; whether bytes of an earlier run were used."""
    version = f"{entry.etag or entry.modified.isoformat()} {entry.size}"
    keep = part.exists() and tag.exists() and tag.read_text() == version and part.stat().st_size <= entry.size
    if not keep:
        part.unlink(missing_ok=True)
        tag.write_text(version)
    have = 0
    with part.open("r+b" if keep else "xb") as out:
        while chunk := out.read(CHUNK) if keep else b"":
            hasher.update(chunk)
            have += len(chunk)
            report(len(chunk))
        resumed, failures = have > 0, 0
        while have < entry.size:
            try:
                for chunk in store.open_read(entry.path, have, entry.etag):
                    out.write(chunk)
                    hasher.update(chunk)
                    have += len(chunk)
                    failures = 0
                    report(len(chunk))
                if have != entry.size:
                    cause = f"the stream ended at byte {have} of {entry.size}"
                    raise Unreachable(store.uri_of(entry.path), "read", cause, "is the object being replaced?")
            except Unreachable:
                failures += 1
                if failures > store.options.transfer_retries or have > entry.size:
                    raise
                out.flush()
                time.sleep(store.options.backoff(failures))
        out.flush()
        os.fsync(out.fileno())
    return resumed


def _each(work: Callable[[T], R], items: Sequence[T], workers: int) -> list[R]:
    """Like map, on threads; the first error stops what has not begun."""
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="artifacts") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def local_files(directory: Path, exclude: Sequence[str] = ()) -> list[str]:
    """Relative paths of all regular files, sorted; links and special files are refused."""
    if not directory.is_dir():
        raise NotFound(str(directory), "upload", "no such directory", "check the path")
    found = []
    for top, names, files in os.walk(directory):
        for name in [*names, *files]:
            file = Path(top, name)
            path = file.relative_to(directory).as_posix()
            if any(fnmatchcase(path, pattern) for pattern in exclude):
                if name in names:
                    names.remove(name)
            elif file.is_symlink():
                advice = "replace it by what it points to, or exclude it"
                raise ArtifactError(str(file), "upload", "it is a symbolic link", advice)
            elif name in files:
                if not file.is_file():
                    raise ArtifactError(str(file), "upload", "it is not a regular file", "remove or exclude it")
                found.append(path)
    return sorted(found)


def upload_tree(
    store: "Store",
    local_dir: Path,
    prefix: str,
    *,
    exclude: Sequence[str] = (),
    workers: int = 4,
    algo: Algorithm = "xxh3",
    progress: "Progress | None" = None,
) -> list[FileDigest]:
    """Store a directory; paths in the answer are relative to it. `exclude`: glob patterns of such paths."""
    target = store.child(prefix)
    in_flight = max(1, 2 * store.options.parts_in_flight // max(1, workers))

    def one(path: str) -> FileDigest:
        return upload_file(target, local_dir / path, path, algo=algo, progress=progress, in_flight=in_flight)

    return _each(one, local_files(local_dir, exclude), workers)


def download_tree(
    store: "Store",
    prefix: str,
    local_dir: Path,
    *,
    files: Sequence[FileDigest] | None = None,
    workers: int = 4,
    algo: Algorithm = "xxh3",
    progress: "Progress | None" = None,
) -> list[FileDigest]:
    """Fetch `files` (paths relative to the prefix), or all that is listed; valid local files are kept."""
    source = store.child(prefix)
    wanted: list[tuple[str, int, str | None]]
    if files is None:
        wanted = [(entry.path, entry.size, None) for entry in source.list()]
        if not wanted:
            raise NotFound(source.uri, "download", "nothing is stored there", "check the path")
    else:
        wanted = [(source.checked(file.path), file.size, file.digest) for file in files]
    local_dir.mkdir(parents=True, exist_ok=True)

    def one(item: tuple[str, int, str | None]) -> FileDigest:
        path, size, digest = item
        return download_file(source, path, local_dir / path, size=size, digest=digest, algo=algo, progress=progress)

    return _each(one, wanted, workers)
