"""Kopf only watches: what is registered, what it sends, and what happens when a watcher dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from fakeapi import HttpFrontend, Refuse, Script, World

from finetune_operator.core.types import Obj
from finetune_operator.shell import kopf_shell
from finetune_operator.shell.kopf_shell import Watches, WatchesEnded, make_registry, make_settings
from finetune_operator.shell.resync import SELECTORS
from tests.kube.builders import MANAGED, new_finetunejob

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:kopf")


def test_only_on_event_handlers_and_a_login_are_registered() -> None:
    async def login() -> None:
        return None

    registry = make_registry(SELECTORS, lambda event, obj: None, login)
    watching = registry._watching.get_all_handlers()
    assert sorted(handler.id for handler in watching) == sorted(f"watch-{r.plural}" for r in SELECTORS)
    for others in (registry._changing, registry._spawning, registry._indexing, registry._webhooks):
        assert others.get_all_handlers() == []
    assert [handler.activity.value for handler in registry._activities.get_all_handlers()] == ["authentication"]


def test_everything_that_writes_is_off() -> None:
    settings = make_settings(SELECTORS)
    assert settings.posting.enabled is False
    assert settings.peering.standalone is True
    assert settings.scanning.disabled is True
    assert settings.networking.request_timeout == 30.0
    storage: Any = settings.persistence.progress_storage
    diffbase: Any = settings.persistence.diffbase_storage
    patch: dict[str, Any] = {}
    storage.store(key="k", record={}, body={}, patch=patch)
    storage.touch(body={}, patch=patch, value="now")
    storage.purge(key="k", body={}, patch=patch)
    diffbase.store(body={}, patch=patch, essence={"a": 1})
    assert patch == {}
    assert storage.fetch(key="k", body={}) is None
    assert diffbase.fetch(body={}) is None


def test_kopf_is_imported_in_one_module() -> None:
    from pathlib import Path

    import finetune_operator.shell

    root = Path(next(iter(finetune_operator.shell.__path__))).parent
    importers = [
        str(path.relative_to(root))
        for path in sorted(root.rglob("*.py"))
        if any(line.startswith(("import kopf", "from kopf")) for line in path.read_text().splitlines())
    ]
    assert importers == ["shell/kopf_shell.py"]


class Rig:
    def __init__(self, world: World, url: str) -> None:
        self.world = world
        self.events: list[tuple[str | None, str, str]] = []
        self.changed = asyncio.Event()
        self.sessions: list[aiohttp.ClientSession] = []
        self.watches = Watches(server=url, connect=self.connect, selectors=SELECTORS, sink=self.sink)

    def connect(self) -> aiohttp.ClientSession:
        self.sessions.append(aiohttp.ClientSession(headers={"User-Agent": "operator"}))
        return self.sessions[-1]

    def sink(self, event: str | None, obj: Obj) -> None:
        self.events.append((event, obj["kind"], obj["metadata"]["name"]))
        self.changed.set()

    async def until(self, wanted: tuple[str | None, str, str]) -> None:
        async with asyncio.timeout(20):
            while wanted not in self.events:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def rig(world: World) -> AsyncIterator[Rig]:
    async with HttpFrontend(world.frontend, bookmark_every=0.2) as http:
        rig = Rig(world, http.url)
        yield rig
        for session in rig.sessions:
            await session.close()


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(rig.watches.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


async def test_events_of_every_watched_kind_arrive_and_nothing_is_written(rig: Rig) -> None:
    api = rig.world.api
    api.create("finetune.dev", "finetunejobs", "team", new_finetunejob("early"))
    async with running(rig):
        await rig.until((None, "FineTuneJob", "early"))
        await rig.until((None, "Node", "n1"))
        job = api.create("finetune.dev", "finetunejobs", "team", new_finetunejob("late"))
        await rig.until(("ADDED", "FineTuneJob", "late"))
        api.put("finetune.dev", "finetunejobs", {**job, "spec": {**job["spec"], "suspend": True}})
        await rig.until(("MODIFIED", "FineTuneJob", "late"))
        container = {"name": "main", "image": "i"}
        theirs = {"metadata": {"name": "theirs"}, "spec": {"containers": [container]}}
        ours = {"metadata": {"name": "ours", "labels": dict(MANAGED)}, "spec": {"containers": [container]}}
        api.create("", "pods", "team", theirs)
        api.create("", "pods", "team", ours)
        await rig.until(("ADDED", "Pod", "ours"))
        api.delete("finetune.dev", "finetunejobs", api.find("finetune.dev", "finetunejobs", "team", "late"))
        await rig.until(("DELETED", "FineTuneJob", "late"))
    assert not [e for e in rig.events if e[2] == "theirs"], "the label selector is the server's work"
    assert rig.world.server.writes.since(0, "operator") == []


async def test_kopf_handles_no_event_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tap no longer fits this Kopf, and each event costs several times as much."""
    handled: list[Any] = []

    def registry(selectors: Any, sink: Any, login: Any) -> Any:
        return make_registry(selectors, lambda *event: handled.append(event), login)

    monkeypatch.setattr(kopf_shell, "make_registry", registry)
    async with HttpFrontend(world.frontend, bookmark_every=0.2) as http:
        rig = Rig(world, http.url)
        world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob("early"))
        async with running(rig):
            await rig.until((None, "FineTuneJob", "early"))
            for name in ("one", "two"):
                world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob(name))
                await rig.until(("ADDED", "FineTuneJob", name))
        for session in rig.sessions:
            await session.close()
    assert handled == []


async def test_without_the_tap_kopfs_handlers_bring_the_events(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kopf_shell, "TappedSession", lambda session, **_: session)
    rig.world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob("early"))
    async with running(rig):
        await rig.until((None, "FineTuneJob", "early"))
        rig.world.api.create("finetune.dev", "finetunejobs", "team", new_finetunejob("late"))
        await rig.until(("ADDED", "FineTuneJob", "late"))


async def test_a_dead_watcher_ends_it(rig: Rig) -> None:
    script = Script()
    script.add(lambda call: call.watch and call.resource.plural == "finetunejobs", Refuse(404))
    rig.world.frontend.policy = script
    async with running(rig) as task:
        async with asyncio.timeout(20):
            await asyncio.wait({task})
        error = task.exception()
        assert isinstance(error, WatchesEnded)
        assert "404" in repr(error.__cause__) or "NotFound" in repr(error.__cause__)


async def test_a_refused_token_is_no_storm_of_logins(rig: Rig) -> None:
    script = Script()
    script.add(lambda call: call.client == "operator", Refuse(401), times=3)
    rig.world.frontend.policy = script
    began = asyncio.get_running_loop().time()
    async with running(rig):
        await rig.until((None, "Node", "n1"))
        async with asyncio.timeout(20):  # nodes may be listed before the refusals reach another kind's watcher
            while len(rig.sessions) < 2:  # noqa: ASYNC110 - Kopf offers no event for a login
                await asyncio.sleep(0.02)
    seconds = asyncio.get_running_loop().time() - began
    assert len(rig.sessions) - 1 <= seconds / 2.0, "at least two seconds between two logins"


async def test_a_kind_that_is_not_served_yet_is_not_silently_left_out() -> None:
    async with HttpFrontend(World().frontend, bookmark_every=0.2) as http:
        rig = Rig(World(), http.url)
        async with running(rig) as task:
            async with asyncio.timeout(20):
                await asyncio.wait({task})
            assert "does not serve finetunejobs" in repr(task.exception().__cause__)  # type: ignore[union-attr]
        for session in rig.sessions:
            await session.close()
