"""`hf://`: repositories of the Hugging Face Hub, or of a mirror that speaks its protocol, read only.

A branch moves; a run must not. A store reads one commit from first to last, and says which (`commit`), so that later
pods can be told it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

import httpx2

from .base import MIB, Entry, Names, Store
from .errors import AccessDenied, ArtifactError, NotFound
from .hub_client import Repository
from .uri import Uri

_UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""A commit never changes; when it was made is of no use to anybody."""
_FOREIGN = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack", ".ot", ".onnx", ".gguf", ".tflite", ".zip")
_TEMPLATES = "additional_chat_templates/"
Found = list[Mapping[str, Any]]


def read_by_us(paths: Iterable[str]) -> set[str]:
    """Of a model's files, those that transformers reads from safetensors: a repository often holds the same weights
    in several forms. All of them where there are no safetensors, so that a refusal can name what there is."""
    every = set(paths)
    weights = {p for p in every if "/" not in p and p.endswith(".safetensors") and not p.startswith("consolidated")}
    if "config.json" not in every or not weights:
        return every
    plain = {p for p in every if "/" not in p and not p.startswith(".") and not p.endswith((*_FOREIGN, ".safetensors"))}
    return weights | plain | {p for p in every if p.startswith(_TEMPLATES)}


class HubStore(Store):
    """Files below a path of a repository. Listing a whole model leaves out what `read_by_us` does."""

    def __init__(self, location: Uri, repository: Repository) -> None:
        super().__init__(location, repository.options)
        self._repository = repository

    @property
    def commit(self) -> str:
        """What the revision in the URI stands for."""
        return self._repository.commit

    def child(self, path: str) -> HubStore:
        return HubStore(self.location.join(self.checked(path, empty=True)), self._repository)

    def _path(self, path: str, *, empty: bool = False) -> str:
        return self.location.join(self.checked(path, empty=empty)).path

    def _entry(self, found: Mapping[str, Any]) -> Entry:
        below = len(self.location.path) + 1 if self.location.path else 0
        large = found.get("lfs") or {}
        etag = large.get("oid") or found.get("oid")
        return Entry(str(found["path"])[below:], int(large.get("size", found["size"])), etag, _UNKNOWN_TIME, self)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        found = self._tree(prefix, recursive=True)
        entries = sorted((self._entry(f) for f in found if f["type"] == "file"), key=lambda entry: entry.path)
        if self._repository.is_model and not prefix:
            kept = read_by_us(entry.path for entry in entries)
            entries = [entry for entry in entries if entry.path in kept]
        yield from entries

    def list_dirs(self, prefix: str = "") -> Names:
        found = self._tree(prefix, recursive=False)
        return sorted(f["path"].rpartition("/")[2] for f in found if f["type"] == "directory")

    def _tree(self, prefix: str, *, recursive: bool) -> Found:
        path = self._path(prefix, empty=True)
        try:
            return [*self._repository.tree(path, recursive=recursive)]
        except NotFound:
            if not path:
                raise
            return []

    def head(self, path: str) -> Entry:
        found = self._repository.about(self._path(path))
        if found is None:
            raise NotFound(self.uri_of(path), "look up", f"no such file at {self.commit[:12]}", "check the URI")
        return self._entry(found)

    def open_read(self, path: str, start: int = 0, etag: str | None = None) -> Iterator[bytes]:
        del etag  # a commit's file is never replaced
        with self._repository.stream(
            self._path(path), self.uri_of(path), f"bytes={start}-" if start else None
        ) as answer:
            skip = start if answer.status_code != httpx2.codes.PARTIAL_CONTENT else 0
            for chunk in answer.iter_raw(MIB):
                if skip < len(chunk):
                    yield chunk[skip:]
                skip = max(0, skip - len(chunk))

    def get_range(self, path: str, start: int, length: int) -> bytes:
        if length <= 0:
            return b""
        wanted = f"bytes={start}-{start + length - 1}"
        try:
            with self._repository.stream(self._path(path), self.uri_of(path), wanted) as answer:
                whole = answer.status_code != httpx2.codes.PARTIAL_CONTENT
                first, found = (start if whole else 0), bytearray()
                for chunk in answer.iter_raw(MIB):
                    found += chunk
                    if len(found) >= first + length:
                        break
                return bytes(found[first : first + length])
        except ArtifactError as error:
            if f"status {httpx2.codes.RANGE_NOT_SATISFIABLE:d}" in error.cause:
                return b""
            raise

    def _read_only(self, path: str) -> NoReturn:
        advice = "write to s3:// or pvc://, and push what is to be shared from there"
        raise AccessDenied(self.uri_of(path) if path else self.uri, "write", "hf:// is read only", advice)

    def put_bytes(self, path: str, data: bytes) -> None:
        self._read_only(path)

    def put_if_absent(self, path: str, data: bytes, *, patience: float | None = None) -> None:
        self._read_only(path)

    def write_stream(self, path: str, chunks: Iterable[bytes], size: int, *, in_flight: int) -> None:
        self._read_only(path)

    def delete(self, path: str) -> None:
        self._read_only(path)

    def delete_tree(self, prefix: str) -> None:
        self._read_only(prefix)
