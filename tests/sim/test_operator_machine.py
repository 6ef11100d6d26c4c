"""Anything may happen to the operator and its cluster, in any order: nothing may go wrong that the watchdog checks,
and once the faults stop, the job comes to its end and the operator to rest."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fakeapi import Partition, RandomFaults, Together
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from opsim import Sim

_ENDS = ("MaxRestartsExceeded", "NoProgress", "GateFailed", "DeadlineExceeded")


class Chaos(RuleBasedStateMachine):
    kills = 0
    """Over all examples of this test run."""

    @initialize(number=st.integers(0, 2**16))
    def begin(self, number: int) -> None:
        self.noise = RandomFaults(random.Random(number), "operator", on=False)
        self.partition = Partition("operator")
        self.sim = Sim(number, nodes=4, policy=Together([self.partition, self.noise]))
        self.spare = 0
        self.lost: list[str] = []
        self.sim.submit(retry={"maxRestarts": 10, "noProgressLimit": 10, "backoff": {"initial": "1s", "max": "8s"}})
        self.sim.start_operator()

    def teardown(self) -> None:
        if not hasattr(self, "sim"):
            return
        with self.sim as sim:
            self.noise.on = self.partition.on = False
            sim.pods_unreachable = False
            sim.skew = 0.0
            for node in list(self.lost):
                sim.world.reconnect(node)
            for _ in range(2):
                self._new_node()
            if sim.job()["spec"].get("suspend"):
                sim.edit(suspend=False)
            sim.until(lambda: sim.phase() in ("Succeeded", "Failed"), within=6000, operators=True)
            assert sim.phase() == "Succeeded" or sim.status()["reason"] in _ENDS, sim.describe()
            if sim.operator is None or not sim.operator.alive:
                sim.start_operator()
            sim.settle()
            status, mark = sim.status(), sim.world.server.writes.mark()
            sim.kill()
            sim.start_operator("somebody-else")
            sim.run_for(60)
            assert sim.operator_writes(mark) == [], "a second pass writes nothing"
            assert sim.status() == status
            if sim.phase() == "Succeeded":
                assert sim.run_of().newest(sim.world.clock.now()) == sim.run_of().total

    def _new_node(self) -> None:
        self.spare += 1
        self.sim.world.add_node(f"spare{self.spare}", {"nvidia.com/gpu": "4"})

    def _wait(self, seconds: float) -> None:
        """Time passes; an operator that died is started again by the kubelet within seconds."""
        self.sim.run_for(seconds / 2)
        if self.sim.operator is None or not self.sim.operator.alive:
            Chaos.kills += 1
            self.sim.start_operator()
        self.sim.run_for(seconds / 2)

    def _node_of(self, pick: int) -> str | None:
        pods = [p for p in self.sim.pods() if p["spec"].get("nodeName")]
        return str(pods[pick % len(pods)]["spec"]["nodeName"]) if pods else None

    # Time and the operator itself

    @rule(seconds=st.sampled_from([0.2, 1.0, 3.0, 10.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self._wait(seconds)

    @rule(after=st.floats(0.0, 4.0), away=st.sampled_from([0.0, 1.0, 20.0]), same=st.booleans())
    def operator_is_killed(self, after: float, away: float, same: bool) -> None:
        self.sim.run_for(after)
        Chaos.kills += 1
        self.sim.kill()
        self.sim.run_for(away)
        self.sim.start_operator("replica-0" if same else f"replica-{self.sim.started}")

    @rule(times=st.integers(2, 5), gap=st.floats(0.05, 1.5))
    def operator_crash_loops(self, times: int, gap: float) -> None:
        for _ in range(times):
            self.sim.run_for(gap)
            Chaos.kills += 1
            self.sim.kill()
            self.sim.start_operator()

    @rule(seconds=st.sampled_from([2.0, 8.0, 30.0]))
    def operator_is_partitioned(self, seconds: float) -> None:
        self.partition.on = True
        self._wait(seconds)
        self.partition.on = False
        self._wait(2.0)

    @rule(on=st.booleans(), level=st.sampled_from([0.02, 0.1, 0.25]), die=st.sampled_from([0.0, 0.1, 0.3]))
    def network_is_noisy(self, on: bool, level: float, die: float) -> None:
        noise = self.noise
        noise.on, noise.refuse, noise.lose, noise.stale, noise.die = on, level, level, level, die
        noise.drop_event = noise.repeat_event = noise.hold_event = level
        self._wait(5.0)

    @rule(seconds=st.sampled_from([-40.0, -3.0, 5.0, 600.0]))
    def operator_clock_jumps(self, seconds: float) -> None:
        self.sim.skew = seconds
        self._wait(3.0)
        self.sim.skew = 0.0

    @rule(on=st.booleans())
    def polls_fail(self, on: bool) -> None:
        self.sim.pods_unreachable = on
        self._wait(3.0)

    # The cluster

    @rule(pick=st.integers(0, 7), soon=st.sampled_from([1.0, 15.0]))
    def spot_node_is_reclaimed(self, pick: int, soon: float) -> None:
        node = self._node_of(pick)
        if node is None or node in self.lost:
            return
        self.sim.reclaim(node)
        self._new_node()
        self._wait(soon)
        if self.sim.world.find("", "nodes", "", node):
            self.sim.destroy(node)
        self._wait(1.0)

    @rule(pick=st.integers(0, 7))
    def node_falls_silent(self, pick: int) -> None:
        node = self._node_of(pick)
        if node is None or node in self.lost:
            return
        self.lost.append(node)
        self.sim.cut_off(node)
        self._new_node()
        self._wait(10.0)

    @precondition(lambda self: self.lost)
    @rule()
    def node_comes_back(self) -> None:
        self.sim.world.reconnect(self.lost.pop(0))
        self._wait(2.0)

    @rule(pick=st.integers(0, 7), code=st.sampled_from([137, 1, 71, 74, 75, 77]))
    def pod_crashes(self, pick: int, code: int) -> None:
        pods = self.sim.alive_pods()
        if pods:
            self.sim.crash_pod(pods[pick % len(pods)], code)
        self._wait(2.0)

    @rule(pick=st.integers(0, 7))
    def pod_is_deleted(self, pick: int) -> None:
        pods = self.sim.pods()
        if pods:
            self.sim.world.api.delete("", "pods", pods[pick % len(pods)])
        self._wait(2.0)

    # People

    @rule(seconds=st.sampled_from([1.0, 30.0]))
    def user_suspends_for_a_while(self, seconds: float) -> None:
        if self.sim.phase() in ("Succeeded", "Failed"):
            return
        self.sim.edit(suspend=True)
        self._wait(seconds)
        self.sim.edit(suspend=False)
        self._wait(1.0)

    @rule(nodes=st.integers(1, 2))
    def user_resizes(self, nodes: int) -> None:
        if self.sim.phase() in ("Succeeded", "Failed"):
            return
        self.sim.edit(resources={"nodes": nodes})
        self._wait(2.0)

    @rule(foreground=st.booleans())
    def somebody_deletes_the_attempt(self, foreground: bool) -> None:
        attempts = self.sim.attempts()
        job = self.sim.world.find("batch", "jobs", "team", attempts[-1]["job"]) if attempts else None
        if job is not None:
            policy = "Foreground" if foreground else "Background"
            self.sim.world.api.delete("batch", "jobs", job, propagationPolicy=policy)
        self._wait(2.0)


_COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
    "database": None,
}


def test_chaos_briefly() -> None:
    run(1, max_examples=10, stateful_step_count=15, phases=[Phase.generate])


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_chaos_at_length() -> None:
    """At least a thousand operators die. The same ones every time: a build that fails can be run again."""
    before, rounds = Chaos.kills, 0
    while Chaos.kills - before < 1000:
        rounds += 1
        assert rounds <= 10, "too few operators were killed to mean anything"
        run(1000 + rounds, max_examples=40, stateful_step_count=40, phases=[Phase.generate, Phase.shrink])


def run(number: int, **profile: Any) -> None:
    machine = type("Chaos", (Chaos,), {})
    seed(number)(machine)
    run_state_machine_as_test(machine, settings=settings(**profile, **_COMMON))
