"""Kopf as the shell, and the only module that knows it.

Kopf keeps the watch streams alive: lists, reconnects, bookmarks, 410, authentication. Everything else it could do is
off, because its change handlers, timers and daemons write annotations or finalizers on every object: here are only
`on.event` handlers, storages that store nothing, no peering, no posting. Each event goes to the store, and that is all;
the session that Kopf is given takes it there before Kopf would (see tap).

A watcher that dies ends Kopf, and with it the process: a blind operator must not look alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, cast

import aiohttp
import kopf
from kopf._cogs.structs.references import Insights

from finetune_operator.core.types import Resource
from finetune_operator.shell.tap import Sink, TappedSession

REQUEST_TIMEOUT = 30.0
_WORKERS = 64
_IDLE = 0.01
"""Kopf keeps a task, and with it the whole object, this many seconds after an object's last event: with its 5 s, and
no limit, a start among thousands holds all of them in memory at once."""
_END = 2.0
_LOGIN_PAUSE = 2.0
_KOPF = str(Path(kopf.__file__).parent)


class WatchesEnded(Exception):
    """The operator no longer sees the cluster."""


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
    settings.queueing.worker_limit = _WORKERS
    settings.queueing.idle_timeout = _IDLE
    settings.process.ultimate_exiting_timeout = None
    for resource, selector in selectors.items():
        if selector:
            settings.watching.label_selectors[resource.group, resource.version, resource.plural] = selector
    return settings


def make_registry(
    selectors: Mapping[Resource, str], sink: Sink, login: Callable[[], Awaitable[Any]]
) -> kopf.OperatorRegistry:
    """One `on.event` per watched resource and one login, nothing else."""
    registry = kopf.OperatorRegistry()

    async def on_event(event: Mapping[str, Any], **_: Any) -> None:
        sink(event["type"], event["object"])

    async def on_login(**_: Any) -> Any:
        return await login()

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
        self._selectors = selectors
        self._sink = sink
        self._next_login = 0.0
        self._settings = make_settings(selectors)
        self._registry = make_registry(selectors, sink, self._login)

    async def _login(self) -> kopf.AiohttpSession:
        """Kopf asks again at once after each refusal; a token that expired must not become a storm of logins."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._next_login - loop.time()))
        self._next_login = loop.time() + _LOGIN_PAUSE
        session = TappedSession(self._connect(), server=self._server, resources=self._selectors, sink=self._sink)
        return kopf.AiohttpSession(server=self._server, aiohttp_session=cast(aiohttp.ClientSession, session))

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Until cancelled, or until a watcher dies: raises WatchesEnded at once, however long Kopf takes to end.

        `started` is called after Kopf took over the signal handlers.
        """
        insights = Insights()
        tasks = await kopf.spawn_tasks(
            registry=self._registry, settings=self._settings, insights=insights, standalone=True, clusterwide=True
        )
        started()
        try:
            # Not kopf.run_tasks: in the end it cancels every task of the process that it did not see at its start.
            done = await self._first_end(tasks, insights)
        finally:
            await _end(tasks)
        failures = [error for task in done if not task.cancelled() and (error := task.exception()) is not None]
        names = ", ".join(task.get_name() for task in done)
        raise WatchesEnded(f"Kopf's {names} ended") from (failures[0] if failures else None)

    async def _first_end(self, tasks: Collection[asyncio.Task[Any]], insights: Insights) -> set[asyncio.Task[Any]]:
        check = asyncio.create_task(self._all_are_served(insights), name="look at what is served")
        try:
            done, _ = await asyncio.wait({*tasks, check}, return_when=asyncio.FIRST_COMPLETED)
            if done == {check} and check.exception() is None:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done
        finally:
            check.cancel()

    async def _all_are_served(self, insights: Insights) -> None:
        """Kopf asks once what the API server serves, and only warns about the rest: it would never be watched."""
        await insights.ready_resources.wait()
        missing = {r.plural for r in self._selectors} - {r.plural for r in insights.watched_resources}
        if missing:
            raise WatchesEnded(f"the API server does not serve {', '.join(sorted(missing))}")


async def _end(root_tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels Kopf's root tasks, then what they leave behind: a failed watcher does not take the others with it."""
    for task in root_tasks:
        task.cancel()
    await asyncio.wait(root_tasks, timeout=_END)
    left = [task for task in asyncio.all_tasks() if _is_kopfs(task)]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_END)


def _is_kopfs(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(_KOPF)
