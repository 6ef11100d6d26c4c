"""The one interface of storage: what a backend must provide, and what every backend then has.

A backend supplies the abstract methods; names, trees, resumption and digests are written once, here and in
`transfer.py`, so that a checkpoint behaves alike on a PVC and in S3. Objects appear whole or not at all, and
`put_if_absent` has exactly one winner: everything that publishes rests on these two.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from . import transfer
from .errors import ArtifactError, NotFound
from .uri import Uri, check_path

MIB = 1 << 20
Progress = Callable[[int], None]
"""Called with the number of bytes moved since the last call; negative when a transfer starts over."""


@dataclass(frozen=True)
class StoreOptions:
    """Patience and sizes. An endpoint that is not there is reported within `answer_s` + `connect_s`; a transfer
    under way may stall for `stall_s` per request and be retried for `transfer_budget_s`."""

    connect_s: float = 5
    answer_s: float = 10
    control_budget_s: float = 8
    stall_s: float = 60
    transfer_budget_s: float = 120
    transfer_retries: int = 8
    backoff_s: float = 0.2
    backoff_max_s: float = 10
    part_bytes: int = 8 * MIB
    parts_in_flight: int = 4
    temp_age_s: float = 3600

    def backoff(self, attempt: int) -> float:
        return min(self.backoff_s * 2.0**attempt, self.backoff_max_s)


@dataclass(frozen=True)
class Entry:
    """One stored object; `path` is relative to the store. `etag` is None where the store keeps none (files)."""

    path: str
    size: int
    etag: str | None
    modified: datetime
    store: "Store | None" = field(default=None, repr=False, compare=False)


Names = list[str]


class Store(ABC):
    """A place to keep objects below one URI. Safe to share between threads, not across fork()."""

    def __init__(self, location: Uri, options: StoreOptions) -> None:
        self.location, self.options = location, options

    @property
    def uri(self) -> str:
        return str(self.location)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def uri_of(self, path: str) -> str:
        return str(self.location.join(path))

    def checked(self, path: str, *, empty: bool = False) -> str:
        return check_path(path, self.uri, empty=empty)

    @abstractmethod
    def child(self, path: str) -> "Store":
        """The same store below a prefix."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object below the prefix, recursively, sorted by path; none is not an error."""

    @abstractmethod
    def list_dirs(self, prefix: str = "") -> Names:
        """The names (one level, without the prefix) below which something is stored, sorted."""

    @abstractmethod
    def head(self, path: str) -> Entry:
        """Size, ETag and time of one object; NotFound when there is none."""

    @abstractmethod
    def open_read(self, path: str, start: int = 0, etag: str | None = None) -> Iterator[bytes]:
        """Stream from a byte offset; ArtifactError when `etag` is given and the object has changed."""

    @abstractmethod
    def get_range(self, path: str, start: int, length: int) -> bytes:
        """At most `length` bytes; fewer, or none, at the end of the object."""

    @abstractmethod
    def put_bytes(self, path: str, data: bytes) -> None:
        """Store or replace one object, atomically."""

    @abstractmethod
    def put_if_absent(self, path: str, data: bytes, *, patience: float | None = None) -> None:
        """Create one object; AlreadyExists when there is one, with exactly one winner among concurrent writers.

        A lost answer followed by AlreadyExists counts as success when the stored bytes are ours: writers that may
        race must therefore write something of their own into `data` (an attempt number, a random id).
        `patience` (seconds) retries an unreachable store for longer than the default.
        """

    @abstractmethod
    def write_stream(self, path: str, chunks: Iterable[bytes], size: int, *, in_flight: int) -> None:
        """Store `chunks` (`size` bytes in all) as one object, atomically, in bounded memory."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove one object; a missing one is fine."""

    @abstractmethod
    def delete_tree(self, prefix: str) -> None:
        """Remove everything below the prefix ("" for the whole store)."""

    def assert_reachable(self) -> None:
        """Raise Unreachable soon, before a patient transfer begins."""
        return

    def exists(self, path: str = "") -> bool:
        """Whether the object is there, or anything below that prefix (without a path: below this store)."""
        if path:
            try:
                self.head(path)
            except NotFound:
                pass
            else:
                return True
        try:
            return next(self.list(path), None) is not None
        except NotFound:
            return False

    def get_bytes(self, path: str, max_bytes: int = 64 * MIB) -> bytes:
        """A whole object of at most `max_bytes`."""
        data = self.get_range(path, 0, max_bytes + 1)
        if len(data) > max_bytes:
            cause = f"it is larger than {max_bytes} bytes"
            raise ArtifactError(self.uri_of(path), "read", cause, "is this the file that was meant?")
        return data

    upload_file = transfer.upload_file
    download_file = transfer.download_file
    upload_tree = transfer.upload_tree
    download_tree = transfer.download_tree
