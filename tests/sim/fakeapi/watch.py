"""WATCH: the log of the store, as one client with one selector sees it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import errors, selectors
from .store import Change

if TYPE_CHECKING:
    from .kinds import Resource
    from .server import FakeApiServer

Event = dict[str, Any]


class Watch:
    """Pull events with `poll()`; the front ends turn this into streams.

    Opened too late, it says so in one ERROR event and ends, as today's API servers do; older ones answered with
    HTTP 410, which `server.gone_over_http` brings back.
    """

    def __init__(self, server: FakeApiServer, resource: Resource, namespace: str, params: Mapping[str, str]) -> None:
        self._server, self._resource, self._namespace = server, resource, namespace
        self._match = selectors.both(params, resource.kind)
        self._bookmarks = params.get("allowWatchBookmarks") in ("true", "1")
        self._queue: deque[Event] = deque()
        self.closed = False
        since = params.get("resourceVersion") or "0"
        initial = params.get("sendInitialEvents") in ("true", "1")
        if since == "0" or initial:
            items, revision = server.list(resource, namespace, dict(params))
            self._queue.extend({"type": "ADDED", "object": obj} for obj in items)
            if initial and self._bookmarks:
                self._queue.append(self._bookmark(revision, {"k8s.io/initial-events-end": "true"}))
            self.revision = revision
        else:
            self.revision = int(since)
            if self.revision < server.store.compacted and server.gone_over_http:
                raise errors.expired(f"too old resource version: {since} ({server.store.compacted})")

    def poll(self) -> list[Event]:
        """Everything new since the last call, oldest first."""
        if self.closed:
            return []
        try:
            changes = self._server.store.since(self.revision)
        except errors.ApiError as failure:
            self.closed = True
            return [*self._drain(), {"type": "ERROR", "object": failure.body()}]
        out = self._drain()
        for change in changes:
            self.revision = change.revision
            event = self._event(change)
            if event is not None:
                out.append(event)
        return out

    def bookmark(self) -> Event | None:
        return self._bookmark(self.revision) if self._bookmarks else None

    def close(self) -> None:
        self.closed = True

    def _drain(self) -> list[Event]:
        out = list(self._queue)
        self._queue.clear()
        return out

    def _event(self, change: Change) -> Event | None:
        key, resource = change.key, self._resource
        if (key.group, key.plural) != (resource.group, resource.plural):
            return None
        if self._namespace and key.namespace != self._namespace:
            return None
        seen = change.old is not None and (self._match is None or self._match(change.old))
        sees = change.new is not None and (self._match is None or self._match(change.new))
        if sees:
            return {"type": "MODIFIED" if seen else "ADDED", "object": change.new}
        if seen:
            # Deleted, or it left the selector: the last state that matched, under the revision of this change.
            return {"type": "DELETED", "object": change.last}
        return None

    def _bookmark(self, revision: int, annotations: dict[str, str] | None = None) -> Event:
        meta: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        body = {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": meta}
        return {"type": "BOOKMARK", "object": body}
