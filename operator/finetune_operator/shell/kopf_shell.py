"""Kopf as the shell, and the only module that knows it.

Kopf keeps the watch streams alive: lists, reconnects, bookmarks, 410, authentication. Everything else it could do is
off, because its change handlers, timers and daemons write annotations or finalizers on every object: here are only
`on.event` handlers, storages that store nothing, no peering, no posting. Each event goes to the store, and that is all.

A watcher that dies ends Kopf, and with it the process: a blind operator must not look alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import kopf

from finetune_operator.core.types import Obj, Resource

REQUEST_TIMEOUT = 30.0
Sink = Callable[[str | None, Obj], None]
"""Takes a watch event: ADDED, MODIFIED, DELETED, or None for an object of a list."""


class NoProgress(kopf.ProgressStorage):
    """Remembers nothing: handlers here have no progress."""

    def fetch(self, *, key: Any, body: Any) -> None:
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        return None

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        return None

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no last-seen state, and does not copy each object to compare with it."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        return {}

    def fetch(self, *, body: Any) -> None:
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        return None


def make_settings(selectors: Mapping[Resource, str]) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.progress_storage = NoProgress()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.request_timeout = REQUEST_TIMEOUT
    settings.watching.connect_timeout = REQUEST_TIMEOUT
    settings.watching.chunk_size = 500
    settings.process.ultimate_exiting_timeout = None
    for resource, selector in selectors.items():
        if selector:
            settings.watching.label_selectors[resource.group, resource.version, resource.plural] = selector
    return settings


def make_registry(selectors: Mapping[Resource, str], sink: Sink, login: Callable[[], Any]) -> kopf.OperatorRegistry:
    """One `on.event` per watched resource and one login, nothing else."""
    registry = kopf.OperatorRegistry()

    async def on_event(event: Mapping[str, Any], **_: Any) -> None:
        sink(event["type"], event["object"])

    async def on_login(**_: Any) -> Any:
        return login()

    for resource in selectors:
        name = f"watch-{resource.plural}"
        kopf.on.event(resource.group, resource.version, resource.plural, id=name, registry=registry)(on_event)
    kopf.on.login(registry=registry, id="login")(on_login)
    return registry


class Watches:
    """`connect` returns an open session; it is called again when the API server refused the former one."""

    def __init__(
        self,
        *,
        server: str,
        connect: Callable[[], aiohttp.ClientSession],
        selectors: Mapping[Resource, str],
        sink: Sink,
    ) -> None:
        self._server = server
        self._connect = connect
        self._settings = make_settings(selectors)
        self._registry = make_registry(selectors, sink, self._login)

    def _login(self) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=self._server, aiohttp_session=self._connect())

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Until cancelled, or until a watcher dies. `started` is called after Kopf took over the signal handlers."""
        ignored = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=self._registry, settings=self._settings, standalone=True, clusterwide=True
        )
        started()
        await kopf.run_tasks(tasks, ignored=ignored)
