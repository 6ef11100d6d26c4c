"""The operator dies at its k-th write of a rollout, for every k, right before and right after the write is stored.

Weights and pods stay as they were while it is away; a new one goes on from there, to the same end, and no client loses
a request. The same for a status that somebody wipes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from crashes import CrashAtOwnWrite
from opsim import Sim
from opsim.engines import Behaviour

V2, V3 = "s3://models/v2", "s3://models/v3"
QUICK: dict[str, Any] = {
    "steps": [{"weight": 20, "pause": "10s"}, {"weight": 50, "pause": "10s"}],
    "analysis": {
        "interval": "5s",
        "minSamples": 10,
        "metrics": [{"name": "ErrorRate", "max": "0.05"}, {"name": "E2ELatency", "maxRegressionPercent": 50}],
    },
    "drainTimeout": "15s",
    "stallTimeout": "15s",
    "progressDeadline": "60s",
}


def over(sim: Sim) -> bool:
    """What the spec asks for is served, or was rejected; nothing is on its way."""
    status = sim.md_status()
    served = (status.get("stable") or {}).get("model")
    settled = served == sim.md()["spec"]["model"]["uri"] or bool(served and status.get("rejected"))
    return settled and not status.get("rollout") and not status.get("draining")


def served(sim: Sim) -> None:
    """The first revision; the same in every life."""
    sim.until(lambda: over(sim), within=600, operators=True)
    policy = sim.world.frontend.policy
    assert isinstance(policy, CrashAtOwnWrite)
    policy.prelude = policy.seen
    sim.traffic(10.0)


def rollout(sim: Sim) -> None:
    """20, 50, 100, drained."""
    served(sim)
    sim.edit_md(model={"uri": V2})
    sim.until(lambda: over(sim), within=900, operators=True)


def rollback(sim: Sim) -> None:
    """The candidate crashes at its first weight."""
    sim.publish(V2, behaviour=Behaviour(crash_after=12))
    served(sim)
    sim.edit_md(model={"uri": V2})
    sim.until(lambda: over(sim), within=900, operators=True)


def changed_mind(sim: Sim) -> None:
    """Another revision replaces the candidate at its first weight, and the spec is reverted before that one has any."""
    sim.publish(V3)
    served(sim)
    sim.edit_md(model={"uri": V2})
    sim.until(lambda: 20 in sim.route_weights().values(), within=600, operators=True)
    sim.edit_md(model={"uri": V3})
    sim.until(
        lambda: (sim.md_status().get("rollout") or {}).get("model", {}).get("uri") == V3, within=600, operators=True
    )
    sim.edit_md(model={"uri": "s3://models/v1"})
    sim.until(lambda: over(sim), within=900, operators=True)


LIVES: dict[str, Callable[[Sim], None]] = {"rollout": rollout, "rollback": rollback, "changed mind": changed_mind}
_TIMES = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_POD_NAMES = re.compile(r"(web-[\w-]*?)-[a-z0-9]{5}\b")
_VOLATILE = ("analysis", "verification", "weight")
"""What depends on when exactly somebody looked; and `weight` of history, the highest that was seen."""


def essence(status: Any) -> Any:
    """Status without times, random names and measured values."""
    if isinstance(status, dict):
        kept = {k: v for k, v in status.items() if k not in _VOLATILE and not _TIMES.fullmatch(str(v))}
        return {k: essence(v) for k, v in kept.items()}
    if isinstance(status, list):
        return [essence(v) for v in status]
    return _POD_NAMES.sub(r"\1", _TIMES.sub("T", status)) if isinstance(status, str) else status


def children(sim: Sim) -> list[tuple[str, str, int]]:
    """Kind, name and size of everything the operator made."""
    found = []
    for key, obj in sim.world.server.store.all():
        if (obj["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") != "finetune-operator":
            continue
        if key.plural not in ("pods", "replicasets"):
            found.append((key.plural, key.name, int(obj.get("spec", {}).get("replicas", 0))))
    return sorted(found)


@dataclass(frozen=True)
class End:
    status: Any
    children: list[tuple[str, str, int]]
    weights: dict[str, int]
    lost: dict[tuple[str, str], int]
    prelude: int
    writes: int
    started: int


def life(name: str, policy: CrashAtOwnWrite) -> End:
    with Sim(20, policy=policy, serves=True) as sim:
        sim.deploy(rollout=QUICK, rate=0)
        sim.start_operator()
        LIVES[name](sim)
        sim.run_for(1)  # a death at the last write takes a moment to be seen
        if sim.operator is None or not sim.operator.alive:
            sim.start_operator()
        sim.settle(30)
        mark = sim.world.server.writes.mark()
        sim.kill()
        sim.start_operator()
        sim.run_for(30)
        assert sim.operator_writes(mark) == [], "a second pass writes nothing"
        lost = {what: n for what, n in sim.lost().items() if what[0] == sim.stable() or what[1] in ("no route",)}
        return End(
            essence(sim.md_status()), children(sim), sim.route_weights(), lost, policy.prelude, policy.seen, sim.started
        )


@cache
def undisturbed(name: str) -> End:
    end = life(name, CrashAtOwnWrite(-1, False, "operator"))
    assert end.started == 2
    assert end.lost == {}
    return end


def compare(name: str, k: int, committed: bool) -> None:
    expected = undisturbed(name)
    policy = CrashAtOwnWrite(k, committed, "operator")
    end = life(name, policy)
    where = f"{name}, {'after' if committed else 'before'} the commit of write {k}: {policy.happened}"
    assert policy.happened is not None, f"there is no write {k}"
    assert end.started == 3, where
    assert end.weights == expected.weights, where
    assert end.children == expected.children, where
    assert end.status == expected.status, where
    assert end.lost == {}, where


def points(name: str, every: int) -> list[int]:
    """One life dies in the first revision, too; that is enough."""
    end = undisturbed(name)
    first = 1 if name == "rollout" else end.prelude + 1
    return list(range(first, end.writes + 1, every))


@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", list(LIVES))
def test_crash_at_some_writes(name: str, committed: bool) -> None:
    for k in points(name, 17):
        compare(name, k, committed)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", list(LIVES))
def test_crash_at_every_write(name: str, committed: bool) -> None:
    for k in points(name, 1):
        compare(name, k, committed)
