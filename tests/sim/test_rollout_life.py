"""Whole rollouts under the real operator: what a user reads in status, and what the clients notice of it."""

from __future__ import annotations

from typing import Any

import pytest
from opsim import Sim
from opsim.engines import Behaviour

V2 = "s3://models/v2"
Obj = dict[str, Any]


def condition(sim: Sim, kind: str) -> tuple[str, str]:
    found = next(c for c in sim.md_status()["conditions"] if c["type"] == kind)
    return found["status"], found["reason"]


def served(seed: int, **spec: Any) -> Sim:
    """A deployment whose first revision serves."""
    sim = Sim(seed, serves=True)
    sim.deploy(**spec)
    sim.start_operator()
    sim.until(lambda: sim.md_phase() == "Healthy", within=300, operators=True)
    sim.run_for(20)
    return sim


def at_weight(sim: Sim, weight: int) -> bool:
    return weight in sim.route_weights().values() and len(sim.route_weights()) == (1 if weight == 100 else 2)


def at_rest(sim: Sim) -> Obj:
    """It is over, and a new operator finds nothing to write."""
    sim.until(lambda: not sim.md_status().get("rollout"), within=1800, operators=True)
    sim.settle(90)
    status, mark = sim.md_status(), sim.world.server.writes.mark()
    sim.kill()
    sim.start_operator()
    sim.run_for(120)
    assert sim.operator_writes(mark) == []
    assert sim.md_status() == status
    return status


def replicas(sim: Sim) -> dict[str, int]:
    return {revision: found["spec"]["replicas"] for revision, found in sim.engine_deployments().items()}


def test_clean_rollout_from_first_revision_to_drained() -> None:
    with served(1) as sim:
        first = sim.stable()
        assert sim.md_status()["history"][0]["outcome"] == "Promoted"
        mark = sim.loop.now
        sim.edit_md(model={"uri": V2})
        seen = []
        for weight in (20, 50):
            sim.until(lambda weight=weight: at_weight(sim, weight), within=300)
            sim.until(lambda: sim.md_status()["rollout"].get("stepSince") is not None, within=60)
            sim.client().sent.clear()
            sim.run_for(25)
            second = sim.canary()
            share = 100 * sim.client().sent[second] / sum(sim.client().sent.values())
            assert share == pytest.approx(weight, abs=8)
            assert sim.md_status()["canary"]["observedWeight"] == pytest.approx(weight, abs=10)
            seen.append(sim.step_of())
        assert seen == ["1/2", "2/2"]
        sim.until(lambda: sim.stable() == second, within=300)
        assert sim.route_weights() == {second: 100}
        status = at_rest(sim)
        assert sim.loop.now - mark < 600
        assert replicas(sim) == {first: 0, second: 2}
        assert [h["outcome"] for h in status["history"]] == ["Promoted", "Promoted"]
        assert status["stable"]["model"] == V2
        assert status["draining"] == []
        assert condition(sim, "Ready") == ("True", "Healthy")
        assert condition(sim, "Promoted")[0] == "True"
        assert sim.lost() == {}, sim.describe()
        assert not sim.world.api.objects("batch", "jobs"), "nothing is left of verifier and checker"


BAD: dict[str, tuple[dict[str, Any], str, int]] = {
    "crashes after 20 requests": ({"behaviour": Behaviour(crash_after=20)}, "EngineRestarted", 20),
    "hangs after 20 requests": ({"behaviour": Behaviour(hang_after=20)}, "EngineStalled", 20),
    "answers slowly": ({"behaviour": Behaviour(slow=1.6)}, "AnalysisFailed", 50),
    "answers with errors": ({"behaviour": Behaviour(error_share=0.15)}, "AnalysisFailed or SyntheticRequestFailed", 20),
    "wrong answers": ({"check": "QualityFailed"}, "QualityFailed", 0),
    "other logprobs": ({"check": "LogprobsDiffer"}, "LogprobsDiffer", 0),
    "tampered with": ({"tampered": True}, "ManifestTampered", 0),
    "gate not passed": ({"gate_passed": False}, "GateFailed", 0),
    "never ready": ({"behaviour": Behaviour(never_ready=True)}, "ProgressDeadlineExceeded", 0),
    "crashes at start": ({"behaviour": Behaviour(dies_at_start=True)}, "EngineCrashed", 0),
    "cannot be fetched": ({"behaviour": Behaviour(fetch_exit=66)}, "FileTampered", 0),
    "image is missing": ({"behaviour": Behaviour(image_missing=True)}, "ProgressDeadlineExceeded", 0),
}


@pytest.mark.parametrize("what", list(BAD))
def test_bad_revision_is_taken_back(what: str) -> None:
    facts, reason, highest = BAD[what]
    with served(7) as sim:
        stable, pods = sim.stable(), {p["metadata"]["uid"] for p in sim.engine_pods()}
        sim.publish(V2, **facts)
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: bool(sim.md_status()["rejected"]), within=1200)
        status = at_rest(sim)
        (entry,) = status["rejected"]
        assert entry["reason"] in reason.split(" or ")
        assert status["history"][-1]["outcome"] == "RolledBack"
        assert status["history"][-1]["weight"] <= highest
        assert status["stable"]["revision"] == stable
        assert sim.route_weights() == {stable: 100}
        assert replicas(sim)[stable] == 2
        assert not any(n for r, n in replicas(sim).items() if r != stable)
        assert condition(sim, "Stalled") == ("True", entry["reason"])
        assert sim.md_phase() == "Healthy"
        assert pods & {p["metadata"]["uid"] for p in sim.engine_pods()}, "stable was never without its pods"
        assert not [what for what in sim.lost() if what[0] == stable], "nobody lost anything that stable had"
        if not highest:
            assert sim.client().sent.keys() == {stable}
