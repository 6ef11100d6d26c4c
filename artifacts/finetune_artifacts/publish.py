"""Content first, manifest last: the only way anything is published.

A reader believes a manifest and nothing else, so a crash at any byte leaves either the old state or the new one.
"""

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from .base import Progress, Store
from .digest import Algorithm, FileDigest
from .errors import AlreadyExists, ArtifactError, DigestMismatch, NotFound


def commit(
    store: Store,
    content: Mapping[str, Path],
    manifest_path: str,
    manifest: bytes,
    *,
    digests: Mapping[str, str] | None = None,
    guard: Callable[[], None] | None = None,
    algo: Algorithm = "xxh3",
    progress: Progress | None = None,
) -> list[FileDigest]:
    """Upload `content` (stored path → local file), then create the manifest; AlreadyExists if there is one.

    digests: what the manifest promises by stored path; a file that was sent differently ends the commit.
    guard: called between content and manifest, to look for fences; what it raises ends the commit.
    The content of two committers with equal paths may mix: give each its own directory (`step-N-a<attempt>`).
    """
    try:
        store.head(manifest_path)
    except NotFound:
        pass
    else:
        cause = "it was committed before"
        raise AlreadyExists(store.uri_of(manifest_path), "commit", cause, "nothing was changed")
    sent = []
    for path, local in content.items():
        file = store.upload_file(local, path, algo=algo, progress=progress)
        if digests is not None and digests.get(path) != file.digest:
            raise DigestMismatch(store.uri_of(path), digests.get(path) or "no such file in the manifest", file.digest)
        sent.append(file)
    if guard is not None:
        guard()
    store.put_if_absent(manifest_path, manifest, patience=store.options.transfer_budget_s)
    return sent


def check_writable(store: Store) -> None:
    """Write, read back, create twice and delete a probe object, so that a job fails here and not after training."""
    probe, data = f".probe/{secrets.token_hex(8)}", secrets.token_bytes(32)
    try:
        store.put_bytes(probe, b"probe")
        if store.get_bytes(probe) != b"probe":
            cause = "an object that was just written reads back differently"
            raise ArtifactError(store.uri, "use", cause, "checkpoints need a store with consistent reads")
        store.delete(probe)
        store.put_if_absent(probe, data)
        try:
            store.put_if_absent(probe, b"a second writer")
        except AlreadyExists:
            pass
        else:
            cause = "it ignores conditional puts (If-None-Match): two writers could both believe to have won"
            raise ArtifactError(store.uri, "use", cause, "use a store that supports them (AWS, MinIO, Ceph ≥ 19, …)")
        if store.get_bytes(probe) != data:
            raise ArtifactError(store.uri, "use", "a refused create changed the object", "use another store")
    finally:
        with suppress(ArtifactError):
            store.delete(probe)
