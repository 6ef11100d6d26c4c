"""An exact record of every write that changed the store: the evidence for "a second pass writes nothing"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .jsontools import digest

if TYPE_CHECKING:
    from .kinds import Resource


class Write(NamedTuple):
    number: int
    verb: str  # create | update | patch | apply | delete, with /status where it went to that subresource
    kind: str
    namespace: str
    name: str
    uid: str
    client: str
    digest: str


class WriteLog:
    def __init__(self) -> None:
        self.entries: list[Write] = []
        self.client = ""  # set by the front end for the time of one request

    def record(self, verb: str, resource: Resource, about: dict[str, Any], stored: dict[str, Any] | None) -> None:
        meta = about["metadata"]
        body = {k: v for k, v in (stored or {}).items() if k not in ("metadata",)}
        self.entries.append(
            Write(
                len(self.entries) + 1,
                verb,
                resource.kind,
                meta.get("namespace", ""),
                meta["name"],
                meta.get("uid", ""),
                self.client,
                digest(body),
            )
        )

    def mark(self) -> int:
        return len(self.entries)

    def since(self, mark: int, client: str | None = None) -> list[Write]:
        """Writes after `mark()`, of one client or of all."""
        return [w for w in self.entries[mark:] if client is None or w.client == client]
