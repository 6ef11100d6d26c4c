"""Anything may happen to the operator, to the cluster and to what users want, in any order and to both kinds at once:
nothing may go wrong that the watchdogs check, and once the faults stop, what is asked for is served."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fakeapi import Partition, RandomFaults, Together
from fakeapi.controllers import Answer
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from opsim import Sim
from opsim.engines import Behaviour
from test_rollout_crash import QUICK

GOOD, ALSO_GOOD = "s3://models/v1", "s3://models/v2"
BAD: dict[str, dict[str, Any]] = {
    "s3://models/crashes": {"behaviour": Behaviour(crash_after=15)},
    "s3://models/hangs": {"behaviour": Behaviour(hang_after=15)},
    "s3://models/errs": {"behaviour": Behaviour(error_share=0.4)},
    "s3://models/wrong": {"check": "QualityFailed"},
    "s3://models/tampered": {"tampered": True},
    "s3://models/unready": {"behaviour": Behaviour(never_ready=True)},
}
STEPS = [
    [{"weight": 20, "pause": "10s"}, {"weight": 50, "pause": "10s"}],
    [{"weight": 34, "pause": "5s"}],
    [{"weight": 10, "pause": "Manual"}, {"weight": 90, "pause": "5s"}],
    [],
]


class Rollouts(RuleBasedStateMachine):
    kills = 0
    """Over all examples of this test run."""

    @initialize(number=st.integers(0, 2**16))
    def begin(self, number: int) -> None:
        self.noise = RandomFaults(random.Random(number), "operator", on=False)
        self.partition = Partition("operator")
        self.sim = Sim(number, nodes=5, policy=Together([self.partition, self.noise]), serves=True)
        self.spare = 0
        for uri, facts in BAD.items():
            self.sim.publish(uri, **facts)
        self.sim.deploy(rollout=QUICK, rate=3.0)
        self.sim.submit(resources={"nodes": 1}, retry={"maxRestarts": 50, "noProgressLimit": 50})
        self.sim.deploy(
            "api", model={"uri": None, "fineTuneJobRef": {"name": "bot"}}, replicas=1, rate=1.0, rollout=QUICK
        )
        self.sim.start_operator()
        self._wait(15.0)

    def teardown(self) -> None:
        if not hasattr(self, "sim"):
            return
        with self.sim as sim:
            self.noise.on = self.partition.on = False
            sim.pods_unreachable, sim.skew = False, 0.0
            sim.world.gateway.answer = lambda route, parent: Answer()
            for _ in range(3):
                self._new_node()
            self._alive()
            sim.edit_md(model={"uri": ALSO_GOOD}, replicas=2, engine=None, rollout=QUICK)
            sim.edit_md("api", replicas=1)
            sim.run_for(5)
            for _ in range(3):
                sim.until(lambda: self._rests("web") and self._rests("api"), within=6000, operators=True)
                for name in ("web", "api"):
                    status = sim.md_status(name)
                    held = [r["revision"] for r in status["rejected"] if status["reason"] == r["reason"]]
                    if held:
                        sim.annotate("retry", held[-1], name)  # what happened to it was not its fault
                sim.run_for(5)
            sim.settle(90, within=6000)
            self._alive()
            status = sim.md_status()
            assert status["stable"]["model"] == ALSO_GOOD, sim.describe()
            assert status["phase"] == "Healthy", sim.describe()
            assert sim.route_weights() == {sim.stable(): 100}
            sizes = {r: d["spec"]["replicas"] for r, d in sim.engine_deployments().items()}
            assert {r: n for r, n in sizes.items() if n} == {sim.stable(): 2}
            assert sim.md_status("api")["phase"] == "Healthy" or sim.phase() == "Failed", sim.describe()
            mark = sim.world.server.writes.mark()
            sim.kill()
            sim.start_operator("somebody-else")
            sim.run_for(60)
            assert sim.operator_writes(mark) == [], "a second pass writes nothing"
            assert sim.md_status() == status
            before = dict(sim.lost())
            sim.run_for(30)
            assert sim.lost() == before, "at rest nobody loses anything"

    def _rests(self, name: str) -> bool:
        status = self.sim.md_status(name)
        return (
            bool(status.get("phase"))
            and not status.get("rollout")
            and not status.get("draining")
            and (status["phase"] == "Healthy" or bool(status.get("rejected")) or self.sim.phase() == "Failed")
        )

    def _alive(self) -> None:
        if self.sim.operator is None or not self.sim.operator.alive:
            Rollouts.kills += 1
            self.sim.start_operator()

    def _wait(self, seconds: float) -> None:
        """Time passes; an operator that died is started again by the kubelet within seconds."""
        self.sim.run_for(seconds / 2)
        self._alive()
        self.sim.run_for(seconds / 2)

    def _new_node(self) -> None:
        self.spare += 1
        self.sim.world.add_node(f"spare{self.spare}", {"nvidia.com/gpu": "4"})

    # Time and the operator itself

    @rule(seconds=st.sampled_from([1.0, 5.0, 20.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self._wait(seconds)

    @rule(after=st.floats(0.0, 6.0), away=st.sampled_from([0.0, 2.0, 40.0]))
    def operator_is_killed(self, after: float, away: float) -> None:
        self.sim.run_for(after)
        Rollouts.kills += 1
        self.sim.kill()
        self.sim.run_for(away)
        self.sim.start_operator()

    @rule(seconds=st.sampled_from([3.0, 20.0]))
    def operator_is_partitioned(self, seconds: float) -> None:
        self.partition.on = True
        self._wait(seconds)
        self.partition.on = False
        self._wait(2.0)

    @rule(on=st.booleans(), level=st.sampled_from([0.05, 0.2]), die=st.sampled_from([0.0, 0.1, 0.3]))
    def network_is_noisy(self, on: bool, level: float, die: float) -> None:
        noise = self.noise
        noise.on, noise.refuse, noise.lose, noise.stale, noise.die = on, level, level, level, die
        noise.drop_event = noise.repeat_event = noise.hold_event = level
        self._wait(10.0)

    @rule(seconds=st.sampled_from([-40.0, 5.0, 300.0]))
    def operator_clock_jumps(self, seconds: float) -> None:
        self.sim.skew = seconds
        self._wait(3.0)
        self.sim.skew = 0.0

    @rule(on=st.booleans())
    def engines_cannot_be_reached(self, on: bool) -> None:
        self.sim.pods_unreachable = on
        self._wait(4.0)

    # Users

    @rule(uri=st.sampled_from([GOOD, ALSO_GOOD, ALSO_GOOD, *BAD]), soon=st.sampled_from([0.1, 10.0, 45.0]))
    def user_wants_another_model(self, uri: str, soon: float) -> None:
        self.sim.edit_md(model={"uri": uri})
        self._wait(soon)

    @rule(args=st.sampled_from([None, ["--enforce-eager"], ["--seed=1"]]))
    def user_sets_engine_arguments(self, args: list[str] | None) -> None:
        self.sim.edit_md(engine=None if args is None else {"args": args})
        self._wait(5.0)

    @rule(replicas=st.integers(0, 4), kubectl=st.booleans())
    def user_resizes(self, replicas: int, kubectl: bool) -> None:
        if kubectl:
            self.sim.scale(replicas)
        else:
            self.sim.edit_md(replicas=replicas)
        self._wait(5.0)

    @rule(steps=st.sampled_from(STEPS), surge=st.integers(1, 3), history=st.sampled_from([0, 3]))
    def user_edits_the_rollout(self, steps: list[dict[str, Any]], surge: int, history: int) -> None:
        self.sim.edit_md(rollout={"steps": steps, "maxSurge": surge, "history": history})
        self._wait(3.0)

    @rule(what=st.sampled_from(["promote", "promote", "abort", "retry"]), exact=st.booleans())
    def user_annotates(self, what: str, exact: bool) -> None:
        status = self.sim.md_status()
        rollout = status.get("rollout") or {}
        value = "nothing/7"
        if exact and what == "retry" and status.get("rejected"):
            value = status["rejected"][-1]["revision"]
        elif exact and rollout.get("revision"):
            value = f"{rollout['revision']}/{rollout['step']}"
        self.sim.annotate(what, value)
        self._wait(3.0)

    @rule(name=st.sampled_from(["web", "api"]))
    def somebody_wipes_the_status(self, name: str) -> None:
        self.sim.wipe_status(name)
        self._wait(2.0)

    # The cluster

    @rule(answer=st.sampled_from([Answer(), Answer(False, "NotAllowedByListeners", "no"), None]))
    def gateway_answers_otherwise(self, answer: Answer | None) -> None:
        self.sim.world.gateway.answer = lambda route, parent: answer
        self._wait(5.0)

    @rule(pick=st.integers(0, 9), crash=st.booleans())
    def engine_pod_goes(self, pick: int, crash: bool) -> None:
        pods = self.sim.engine_pods() + self.sim.engine_pods(name="api")
        if pods and crash:
            self.sim.crash_pod(pods[pick % len(pods)], 137)
        elif pods:
            self.sim.world.api.delete("", "pods", pods[pick % len(pods)])
        self._wait(2.0)

    @rule(pick=st.integers(0, 9))
    def node_is_lost(self, pick: int) -> None:
        nodes = sorted({p["spec"]["nodeName"] for p in self.sim.world.pods() if p["spec"].get("nodeName")})
        if nodes and self.sim.world.find("", "nodes", "", nodes[pick % len(nodes)]):
            self._new_node()
            self.sim.destroy(nodes[pick % len(nodes)])
        self._wait(2.0)

    @rule(plural=st.sampled_from(["jobs", "services", "httproutes", "deployments"]), pick=st.integers(0, 9))
    def somebody_deletes_a_child(self, plural: str, pick: int) -> None:
        groups = {"jobs": "batch", "services": "", "httproutes": "gateway.networking.k8s.io", "deployments": "apps"}
        found = [
            obj
            for obj in self.sim.world.api.objects(groups[plural], plural)
            if "finetune.dev/deployment" in (obj["metadata"].get("labels") or {})
        ]
        if found:
            self.sim.world.api.delete(groups[plural], plural, found[pick % len(found)], propagationPolicy="Background")
        self._wait(3.0)


_COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
    "database": None,
}


def test_chaos_briefly() -> None:
    run(1, max_examples=3, stateful_step_count=15, phases=[Phase.generate])


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_chaos_at_length() -> None:
    """The same every time: a build that fails can be run again."""
    run(2000, max_examples=25, stateful_step_count=40, phases=[Phase.generate, Phase.shrink])


def run(number: int, **profile: Any) -> None:
    machine = type("Rollouts", (Rollouts,), {})
    seed(number)(machine)
    run_state_machine_as_test(machine, settings=settings(**profile, **_COMMON))
