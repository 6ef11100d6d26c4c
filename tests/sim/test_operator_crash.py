"""The operator dies at its k-th write, for every k, right before and right after the write reaches the store.

After a restart everything comes to the same end: the same children, the same status but for times and what really
happened differently, and nothing left to write.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from crashes import CrashAtOwnWrite
from opsim import Sim

from finetune_operator.core.names import LABEL_ATTEMPT, LABEL_ROLE


def _training(sim: Sim, steps: int) -> bool:
    gangs = sim.run_of().gangs
    return bool(gangs) and gangs[max(gangs)].step(sim.world.clock.now()) >= steps


def quiet_life(sim: Sim) -> None:
    sim.until(lambda: sim.phase() == "Succeeded", within=900, operators=True)


def preempted_life(sim: Sim) -> None:
    """A reclaim notice, the machine's end, and a crash of a pod after that."""
    sim.until(lambda: _training(sim, 12), within=600, operators=True)
    node = sim.pods()[0]["spec"]["nodeName"]
    sim.reclaim(node)
    # Not earlier: what the pods of a removed node said is gone with them, and an absent operator never hears it.
    sim.until(lambda: len(sim.attempts()) == 2, within=600, operators=True)
    sim.destroy(node)
    sim.until(lambda: 2 in sim.run_of().gangs and _training(sim, 25), within=600, operators=True)
    sim.crash_pod(sim.alive_pods()[0])
    sim.until(lambda: sim.phase() == "Succeeded", within=900, operators=True)


def suspended_life(sim: Sim) -> None:
    """Suspended in training, lost its node, resumed."""
    sim.until(lambda: _training(sim, 12), within=600, operators=True)
    sim.edit(suspend=True)
    sim.until(lambda: sim.phase() == "Suspended" and not sim.alive_pods(), within=600, operators=True)
    sim.edit(suspend=False)
    sim.until(lambda: len(sim.attempts()) == 2 and _training(sim, 20), within=600, operators=True)
    sim.cut_off(sim.alive_pods()[0]["spec"]["nodeName"])
    sim.until(lambda: sim.phase() == "Succeeded", within=900, operators=True)


LIVES: dict[str, Callable[[Sim], None]] = {
    "quiet": quiet_life,
    "preempted": preempted_life,
    "suspended": suspended_life,
}
_TIMES = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_POD_NAMES = re.compile(r"(bot-[\w-]*?\d)-[a-z0-9]{5}\b")
_VOLATILE = ("podUid", "jobUid", "uid", "endStep", "startStep", "lostSteps", "step", "committedStep", "checkpointStep")


def essence(status: Any) -> Any:
    """Status without times, uids and the step numbers that depend on when exactly something happened."""
    if isinstance(status, dict):
        return {
            k: essence(v)
            for k, v in status.items()
            if k not in (*_VOLATILE, "totals", "checkpoint", "node") and not _TIMES.fullmatch(str(v))
        }
    if isinstance(status, list):
        return [essence(v) for v in status]
    return _POD_NAMES.sub(r"\1", _TIMES.sub("T", status)) if isinstance(status, str) else status


def children(sim: Sim) -> list[tuple[str, str, str]]:
    """Kind, name (or role, where the name is random) and attempt of everything the operator made."""
    found = []
    for key, obj in sim.world.server.store.all():
        labels = obj["metadata"].get("labels") or {}
        if labels.get("app.kubernetes.io/managed-by") == "finetune-operator" and key.plural != "pods":
            name = re.sub(r"-token-\w+$", "-token", key.name)
            found.append((key.plural, name, labels.get(LABEL_ATTEMPT, "")))
        elif key.plural == "pods" and labels.get(LABEL_ROLE) == "preflight":
            found.append((key.plural, key.name, ""))
    return sorted(found)


def live(name: str, k: int | None, committed: bool) -> tuple[Any, Any, int, int]:
    """(essence of status, children, writes, operators started) of one life in which the operator dies at write k."""
    policy = CrashAtOwnWrite(k if k is not None else -1, committed, "operator")
    with Sim(20, policy=policy) as sim:
        if name == "quiet":
            sim.run_of().preflight_waits = 1
        sim.submit()
        sim.start_operator()
        LIVES[name](sim)
        sim.run_for(1)  # a death at the last write takes a moment to be seen
        # An operator that died at its last write has not been replaced yet.
        if sim.operator is None or not sim.operator.alive:
            sim.start_operator()
        sim.settle()
        if k is not None:
            assert policy.happened is not None, f"there is no write {k}"
        mark = sim.world.server.writes.mark()
        sim.kill()
        sim.start_operator()
        sim.run_for(60)
        assert sim.operator_writes(mark) == [], "a second pass writes nothing"
        return essence(sim.status()), children(sim), policy.seen, sim.started


@cache
def undisturbed(name: str) -> tuple[Any, Any, int]:
    status, made, writes, started = live(name, None, False)
    assert started == 2
    return status, made, writes


def compare(name: str, k: int, committed: bool) -> None:
    expected_status, expected_children, _ = undisturbed(name)
    status, made, _, started = live(name, k, committed)
    assert started == 3
    where = f"{name} life, write {k}, {'after' if committed else 'before'} the commit"
    assert made == expected_children, where
    assert status == expected_status, where


def _points(name: str, every: int) -> list[int]:
    return list(range(1, undisturbed(name)[2] + 1, every))


@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", list(LIVES))
def test_crash_at_some_writes(name: str, committed: bool) -> None:
    for k in _points(name, 17):
        compare(name, k, committed)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", list(LIVES))
def test_crash_at_every_write(name: str, committed: bool) -> None:
    for k in _points(name, 1):
        compare(name, k, committed)
