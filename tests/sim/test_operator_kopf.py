"""The operator as a process, Kopf included, over loopback HTTP against the fake API server."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from fakeapi import Cut, Policy, Refuse
from fakeapi.routes import Call
from opsim import LiveSim

pytestmark = [pytest.mark.timeout(180)]


def _training(sim: LiveSim, step: int) -> bool:
    gangs = sim.run_of().gangs
    return bool(gangs) and gangs[max(gangs)].step(sim.world.clock.now()) >= step


def _writes(sim: LiveSim, mark: int) -> list[Any]:
    return [w for w in sim.world.server.writes.since(mark, "operator") if w.kind != "Lease"]


async def _calm(sim: LiveSim, mark: int, *, seconds: float) -> None:
    """The operator lists, watches, and writes nothing but its Lease for a while."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        assert _writes(sim, mark) == []
        await asyncio.sleep(0.05)


def _renewed(sim: LiveSim) -> str:
    lease = sim.world.find("coordination.k8s.io", "leases", "finetune-system", "finetune-operator")
    return str((lease or {}).get("spec", {}).get("renewTime", ""))


@pytest.mark.slow
async def test_killed_hard_and_started_again(tmp_path: Path) -> None:
    async with LiveSim(tmp_path) as sim:
        sim.submit()
        await sim.start_operator()
        await sim.until(lambda: _training(sim, 4))
        assert await sim.stop_operator(signal.SIGKILL) == -signal.SIGKILL
        sim.world.api.delete("", "pods", sim.pods()[0])  # preempted while nobody looks
        await sim.until(lambda: not sim.alive_pods())
        assert sim.run_of().gangs[1].committed(sim.world.clock.now()) >= 4
        await sim.start_operator()
        await sim.until(lambda: sim.phase() == "Succeeded")
        outcomes = [a["outcome"] for a in sim.attempts()]
        assert outcomes == ["Preempted", "Succeeded"]
        assert sim.attempts()[0]["lostSteps"] == 0
        assert await sim.stop_operator(signal.SIGTERM) == 0
        lease = sim.world.get("coordination.k8s.io", "leases", "finetune-system", "finetune-operator")
        assert not lease["spec"].get("holderIdentity"), "released for the next replica"
        mark = sim.world.server.writes.mark()
        await sim.start_operator()
        await sim.until(lambda: _renewed(sim) != lease["spec"].get("renewTime"))
        await _calm(sim, mark, seconds=2.0)


@pytest.mark.slow
async def test_history_is_compacted_and_watches_are_cut(tmp_path: Path) -> None:
    """410 Gone while things happened that no watch will ever report."""
    async with LiveSim(tmp_path) as sim:
        sim.submit()
        await sim.start_operator()
        await sim.until(lambda: _training(sim, 3))
        for _ in range(3):
            sim.world.server.store.compact()
            sim.http.cut_watches()
            await asyncio.sleep(0.3)
        pod = sim.pods()[1]
        sim.http.cut_watches()
        sim.world.api.delete("", "pods", pod)
        sim.world.server.store.compact()
        await sim.until(lambda: sim.phase() == "Succeeded")
        assert [a["outcome"] for a in sim.attempts()] == ["Preempted", "Succeeded"]


@pytest.mark.slow
async def test_blind_operator_does_not_look_alive(tmp_path: Path) -> None:
    """Kopf's watcher does not survive an HTTP 410 (only old API servers send one): the process ends, and a new one
    catches up."""
    async with LiveSim(tmp_path) as sim:
        sim.world.server.gone_over_http = True
        sim.submit()
        await sim.start_operator()
        await sim.until(lambda: _training(sim, 3))
        assert sim.process is not None
        # A watch that goes on from a compacted revision is answered with 410; one that lists anew is not.
        deadline = asyncio.get_running_loop().time() + 60
        while sim.process.returncode is None:
            assert asyncio.get_running_loop().time() < deadline
            sim.world.api.create("", "configmaps", "team", {"metadata": {"generateName": "x-"}})
            sim.world.server.store.compact()
            sim.http.cut_watches()
            await asyncio.sleep(0.05)
        assert sim.process.returncode == 1
        await sim.start_operator()
        await sim.until(lambda: sim.phase() == "Succeeded")
        assert [a["outcome"] for a in sim.attempts()] == ["Succeeded"]


class Weather(Policy):
    """Every seventh request of the operator is refused or loses its answer."""

    def __init__(self) -> None:
        self.count = 0

    def before(self, call: Call) -> Any:
        if call.client != "operator" or call.watch or call.resource.kind == "Lease":
            return None
        self.count += 1
        return {0: Refuse(503), 7: Refuse(429, retry_after=1)}.get(self.count % 14)

    def after(self, call: Call, status: int) -> Any:
        if call.client != "operator" or call.watch or call.resource.kind == "Lease":
            return None
        return Cut(timeout=False) if self.count % 14 == 3 else None


@pytest.mark.nightly
async def test_bad_weather(tmp_path: Path) -> None:
    weather = Weather()
    async with LiveSim(tmp_path, policy=weather) as sim:
        sim.submit()
        await sim.start_operator()
        await sim.until(lambda: sim.phase() == "Succeeded", within=120)
        assert weather.count > 20
        assert len(sim.attempts()) == 1
