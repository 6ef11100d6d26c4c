"""`s3://` over obstore: the store. Who it talks to, with whose keys and how patiently, is in `s3_client.py`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import obstore
from obstore.exceptions import BaseError

from .base import MIB, Entry, Names, Store
from .errors import AlreadyExists, ArtifactError, NotFound, Unreachable
from .s3_client import CONTROL_RETRIES, Bucket
from .transfer import part_size
from .uri import Uri

_SMALL = 4 * MIB


def without_markers(entries: list[Entry]) -> list[Entry]:
    """Drop the empty objects that consoles create to show a folder: on disk they would clash with it."""
    folders = {entry.path[:i] for entry in entries for i, c in enumerate(entry.path) if c == "/"} | {""}
    return [entry for entry in entries if entry.size or entry.path not in folders]


class ObjectStore(Store):
    """Objects below `bucket/prefix`."""

    def __init__(self, location: Uri, bucket: Bucket) -> None:
        super().__init__(location, bucket.options)
        self._bucket = bucket

    def child(self, path: str) -> ObjectStore:
        return ObjectStore(self.location.join(self.checked(path, empty=True)), self._bucket)

    def _key(self, path: str) -> str:
        return self.location.join(self.checked(path)).path

    @contextmanager
    def _translated(self, path: str, action: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError, ValueError) as error:
            found = self._bucket.error(error, self.uri_of(path), action)
            self._bucket.reached = self._bucket.reached and not isinstance(found, Unreachable)
            raise found from None
        self._bucket.reached = True

    def _entry(self, meta: obstore.ObjectMeta) -> Entry:
        below = len(self.location.path) + 1 if self.location.path else 0
        return Entry(meta["path"][below:], meta["size"], meta["e_tag"], meta["last_modified"], self)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        below = self.location.join(self.checked(prefix, empty=True)).path
        with self._translated(prefix, "list"):
            pages = obstore.list(self._bucket.control, below or None, chunk_size=1000)
            found = [self._entry(meta) for page in pages for meta in page]
        yield from sorted(without_markers(found), key=lambda entry: entry.path)

    def list_dirs(self, prefix: str = "") -> Names:
        below = self.location.join(self.checked(prefix, empty=True)).path
        with self._translated(prefix, "list"):
            found = obstore.list_with_delimiter(self._bucket.control, below or None)["common_prefixes"]
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def head(self, path: str) -> Entry:
        with self._translated(path, "look up"):
            return self._entry(obstore.head(self._bucket.control, self._key(path)))

    def assert_reachable(self) -> None:
        if not self._bucket.reached:
            try:
                self.head(".reachable")
            except Unreachable:
                raise
            except ArtifactError:
                self._bucket.reached = True  # a refusal is an answer; the transfer itself will say it better

    def open_read(self, path: str, start: int = 0, etag: str | None = None) -> Iterator[bytes]:
        key = self._key(path)
        self.assert_reachable()
        options: obstore.GetOptions = {"range": {"offset": start}} if start else {}
        if etag:
            options["if_match"] = etag
        try:
            with self._translated(path, "read"):
                yield from obstore.get(self._bucket.data, key, options=options).stream(_SMALL)
        except AlreadyExists:
            cause = "it was replaced while it was being read"
            raise ArtifactError(self.uri_of(path), "read", cause, "start again") from None

    def get_range(self, path: str, start: int, length: int) -> bytes:
        key = self._key(path)
        if length <= 0:
            return b""
        try:
            with self._translated(path, "read"):
                answer = obstore.get(self._bucket.control, key, options={"range": (start, start + length)})
                first, end = answer.range
                if end - first <= _SMALL:
                    return answer.bytes().to_bytes()
        except ArtifactError as error:
            if "InvalidRange" in error.cause or "status 416" in error.cause:
                return b""
            raise
        data = bytearray()
        for chunk in self.open_read(path, first, answer.meta["e_tag"]):
            data += chunk[: end - first - len(data)]
            if len(data) == end - first:
                break
        return bytes(data)

    def put_bytes(self, path: str, data: bytes) -> None:
        key = self._key(path)
        if len(data) > _SMALL:
            self.assert_reachable()
        with self._translated(path, "write"):
            client = self._bucket.control if len(data) <= _SMALL else self._bucket.data
            obstore.put(client, key, data, use_multipart=False)

    def put_if_absent(self, path: str, data: bytes, *, patience: float | None = None) -> None:
        key = self._key(path)
        give_up = time.monotonic() + (self.options.control_budget_s if patience is None else patience)
        attempt, uncertain = 0, False
        while True:
            try:
                with self._translated(path, "create"):
                    obstore.put(self._bucket.create, key, data, mode="create", use_multipart=False)
                return
            except AlreadyExists:
                if uncertain and self._holds(path, data):
                    return
                raise
            except Unreachable as error:
                uncertain = uncertain or error.maybe_done
                pause = self.options.backoff(attempt)
                if time.monotonic() + pause >= give_up or (patience is None and attempt == CONTROL_RETRIES):
                    raise
            time.sleep(pause)
            attempt += 1

    def _holds(self, path: str, data: bytes) -> bool:
        try:
            return self.get_range(path, 0, len(data) + 1) == data
        except NotFound:
            return False

    def write_stream(self, path: str, chunks: Iterable[bytes], size: int, *, in_flight: int) -> None:
        key = self._key(path)
        part = part_size(size, self.options.part_bytes)
        with self._translated(path, "write"):
            if size <= part:
                obstore.put(self._bucket.data, key, b"".join(chunks), use_multipart=False)
            else:
                # One part more than those in flight is being filled.
                slots = max(1, min(in_flight, 8 * self.options.part_bytes // part) - 1)
                obstore.put(
                    self._bucket.data,
                    key,
                    iter(chunks),
                    use_multipart=True,
                    chunk_size=part,
                    max_concurrency=slots,
                )

    def delete(self, path: str) -> None:
        key = self._key(path)
        try:
            with self._translated(path, "delete"):
                obstore.delete(self._bucket.control, key)
        except NotFound as error:
            if "NoSuchBucket" in error.cause:
                raise

    def delete_tree(self, prefix: str) -> None:
        keys = [self._key(entry.path) for entry in self.list(prefix)]
        with self._translated(prefix, "delete"):
            for first in range(0, len(keys), 1000):
                obstore.delete(self._bucket.control, keys[first : first + 1000])
