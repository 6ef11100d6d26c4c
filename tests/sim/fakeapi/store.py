"""The store: every object at every revision since the last compaction, like etcd behind the API server.

One counter numbers all changes. Keeping the log rather than only the latest state is what makes old LISTs (stale
reads, `continue` tokens) and WATCHes from a resourceVersion exact instead of approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from . import errors

Obj = dict[str, Any]


class Key(NamedTuple):
    group: str
    plural: str
    namespace: str
    name: str


class Change(NamedTuple):
    """`old` is None for a creation, `new` for a deletion."""

    revision: int
    key: Key
    old: Obj | None
    new: Obj | None

    @property
    def last(self) -> Obj:
        """What a DELETED event carries: the last state under the revision of the deletion."""
        assert self.old is not None
        return {**self.old, "metadata": {**self.old["metadata"], "resourceVersion": str(self.revision)}}


class Store:
    def __init__(self) -> None:
        self.revision = 1
        self._objects: dict[Key, Obj] = {}
        self._by_type: dict[tuple[str, str], dict[Key, Obj]] = {}
        self._log: list[Change] = []
        self._compacted = 1
        self._listeners: list[Callable[[Change], None]] = []

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def get(self, key: Key) -> Obj | None:
        return self._objects.get(key)

    def put(self, key: Key, obj: Obj) -> Obj:
        """Stores the object (which then belongs to the store: never change it) under the next revision."""
        self.revision += 1
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.revision)}}
        old = self._objects.get(key)
        self._objects[key] = obj
        self._by_type.setdefault((key.group, key.plural), {})[key] = obj
        self._record(Change(self.revision, key, old, obj))
        return obj

    def remove(self, key: Key) -> Obj:
        self.revision += 1
        old = self._objects.pop(key)
        del self._by_type[(key.group, key.plural)][key]
        change = Change(self.revision, key, old, None)
        self._record(change)
        return change.last

    def _record(self, change: Change) -> None:
        self._log.append(change)
        for listener in list(self._listeners):
            listener(change)

    def of_type(self, group: str, plural: str) -> dict[Key, Obj]:
        return self._by_type.get((group, plural), {})

    def all(self) -> Iterator[tuple[Key, Obj]]:
        yield from list(self._objects.items())

    @property
    def compacted(self) -> int:
        return self._compacted

    def compact(self, revision: int | None = None) -> None:
        """Forgets the log up to a revision (default: all of it): older reads and watches get 410."""
        self._compacted = self.revision if revision is None else min(revision, self.revision)
        self._log = [change for change in self._log if change.revision > self._compacted]

    def since(self, revision: int) -> list[Change]:
        if revision < self._compacted:
            raise errors.expired(f"too old resource version: {revision} ({self._compacted})")
        # The log is dense: one entry per revision.
        first = self._log[0].revision if self._log else self.revision + 1
        return self._log[max(0, revision + 1 - first) :]

    def at(self, group: str, plural: str, revision: int) -> dict[Key, Obj]:
        """All objects of a type as they were at a revision."""
        if revision >= self.revision:
            return dict(self.of_type(group, plural))
        state = dict(self.of_type(group, plural))
        for change in reversed(self.since(revision)):
            if (change.key.group, change.key.plural) != (group, plural):
                continue
            if change.old is None:
                state.pop(change.key, None)
            else:
                state[change.key] = change.old
        return state
