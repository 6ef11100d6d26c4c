"""Somebody empties the status, after any write of a rollout: it comes back from what stands on the route and the
revisions' Deployments. Nothing that was promoted is rolled out again, what was rejected stays rejected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from crashes import CrashAtOwnWrite
from opsim import Sim
from test_rollout_crash import LIVES, QUICK, children, points


@dataclass
class WipeAfterWrite(CrashAtOwnWrite):
    """The operator lives on; its status does not."""

    wipe: Callable[[], None] = field(default=lambda: None)

    def after(self, call: Any, status: int) -> Any:
        if super().after(call, status) is not None:
            self.seen += 1  # never again
            self.wipe()
        return None


@dataclass(frozen=True)
class End:
    stable: str
    rejected: list[tuple[str, str]]
    phase: str
    children: list[tuple[str, str, int]]
    weights: dict[str, int]
    lost: dict[tuple[str, str], int]
    promotions: int


def life(name: str, k: int) -> tuple[End, int]:
    policy = WipeAfterWrite(k, True, "operator")
    with Sim(20, policy=policy, serves=True) as sim:
        policy.wipe = sim.wipe_status
        sim.deploy(rollout=QUICK, rate=0)
        sim.start_operator()
        LIVES[name](sim)
        sim.settle(30)
        assert k < 0 or policy.happened is not None, f"there is no write {k}"
        status, mark = sim.md_status(), sim.world.server.writes.mark()
        sim.kill()
        sim.start_operator()
        sim.run_for(30)
        assert sim.operator_writes(mark) == [], "a second pass writes nothing"
        end = End(
            sim.stable(),
            [(r["revision"], r["reason"]) for r in status.get("rejected") or []],
            sim.md_phase(),
            children(sim),
            sim.route_weights(),
            {what: n for what, n in sim.lost().items() if what[0] == sim.stable() or what[1] == "no route"},
            sim.serving_watchdog.promotions,
        )
        return end, policy.seen


@cache
def undisturbed(name: str) -> tuple[End, int]:
    return life(name, -1)


def compare(name: str, k: int) -> None:
    expected, _ = undisturbed(name)
    end, _ = life(name, k)
    assert end == expected, f"{name}, status wiped after write {k}"


@pytest.mark.parametrize("name", list(LIVES))
def test_wiped_after_some_writes(name: str) -> None:
    for k in points(name, 29):
        compare(name, k)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list(LIVES))
def test_wiped_after_every_write(name: str) -> None:
    for k in points(name, 1):
        compare(name, k)
