"""Whole rollouts under the real operator: what a user reads in status, and what the clients notice of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakeapi.controllers import Answer
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


# People


def test_manual_pause_waits_for_the_very_step_and_revision() -> None:
    steps = [{"weight": 20, "pause": "Manual"}, {"weight": 50, "pause": "Manual"}]
    with served(11, rollout={"steps": steps}) as sim:
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: sim.md_phase() == "Paused", within=300)
        revision = sim.canary()
        for stale in ("other/1", f"{revision}/2"):
            sim.annotate("promote", stale)
            sim.run_for(30)
            assert sim.step_of() == "1/2"
            assert sim.md_status()["handled"]["promote"] == stale
        assert len([e for e in events(sim) if e["reason"] == "AnnotationIgnored"]) == 2
        sim.annotate("promote", f"{revision}/1")
        sim.until(lambda: sim.step_of() == "2/2" and sim.md_phase() == "Paused", within=60)
        sim.run_for(60)
        assert sim.route_weights()[revision] == 50, "the annotation was for step 1"
        sim.annotate("promote", f"{revision}/2")
        status = at_rest(sim)
        assert status["stable"]["revision"] == revision
        assert sim.lost() == {}


def test_aborted_rollout_is_not_tried_again_until_somebody_says_so() -> None:
    with served(12) as sim:
        stable = sim.stable()
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: at_weight(sim, 20), within=300)
        revision, step = sim.canary(), sim.md_status()["rollout"]["step"]
        sim.annotate("abort", f"{revision}/{step}")
        sim.until(lambda: sim.route_weights() == {stable: 100}, within=60)
        status = at_rest(sim)
        assert (status["history"][-1]["outcome"], status["rejected"][0]["reason"]) == ("Aborted", "Aborted")
        sim.annotate("retry", revision)
        sim.until(lambda: sim.stable() == revision, within=600)
        assert at_rest(sim)["rejected"] == []
        assert sim.lost() == {}


def events(sim: Sim) -> list[Obj]:
    return [e for e in sim.world.api.objects("", "events") if e["involvedObject"]["kind"] == "ModelDeployment"]


def test_other_analysis_is_a_new_trial() -> None:
    with served(13) as sim:
        sim.publish(V2, behaviour=Behaviour(slow=1.6))
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: bool(sim.md_status()["rejected"]), within=900)
        at_rest(sim)
        assert sim.stable() == sim.md_status()["history"][0]["revision"]
        sim.edit_md(rollout={"analysis": {"metrics": [{"name": "ErrorRate", "max": "0.05"}]}})
        sim.until(lambda: sim.md_status()["stable"]["model"] == V2, within=900)
        at_rest(sim)


def test_reverted_spec_is_the_state_that_was_never_left() -> None:
    with served(14) as sim:
        status, weights = sim.md_status(), sim.route_weights()
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: at_weight(sim, 50), within=300)
        sim.edit_md(model={"uri": "s3://models/v1"})
        sim.until(lambda: sim.route_weights() == weights, within=60)
        after = at_rest(sim)
        assert after["stable"] == status["stable"]
        assert after["history"][-1]["outcome"] == "Superseded"
        assert after["rejected"] == []
        assert {r: n for r, n in replicas(sim).items() if n} == {sim.stable(): 2}
        assert sim.lost() == {}


def test_same_model_under_another_uri_is_no_new_revision() -> None:
    with served(15) as sim:
        stable = sim.stable()
        sim.publish("s3://copies/v1", digest=sim.md_status()["stable"]["digest"])
        sim.edit_md(model={"uri": "s3://copies/v1"})
        sim.run_for(60)
        status = at_rest(sim)
        assert status["stable"]["revision"] == stable
        assert replicas(sim) == {stable: 2}
        assert sim.serving_watchdog.promotions == 1


def test_new_defaults_of_the_installation_start_nothing() -> None:
    with served(16) as sim:
        status, mark = sim.md_status(), sim.world.server.writes.mark()
        sim.kill()
        sim.config = replace(sim.config, serving_image="vllm:2", small_image="small:2")
        sim.start_operator()
        sim.run_for(400)
        assert sim.operator_writes(mark) == []
        assert sim.md_status() == status
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: sim.md_status()["stable"]["model"] == V2, within=900)
        assert sim.md_status()["stable"]["image"] == "vllm:2", "the next revision that a user makes has them"
        assert sim.lost() == {}


def test_scaled_by_kubectl_without_a_fight() -> None:
    with served(17) as sim:
        sim.scale(4)
        sim.until(lambda: sim.md_status()["ready"] == "4/4", within=120)
        sim.scale(1)
        sim.until(lambda: sim.md_status()["ready"] == "1/1" and len(sim.engine_pods()) == 1, within=120)
        assert len(sim.md_status()["history"]) == 1
        sim.scale(0)
        sim.until(lambda: sim.engine_pods() == [], within=120)
        status = at_rest(sim)
        assert (status["phase"], status["reason"]) == ("Healthy", "ScaledToZero")
        assert not {what for what in sim.lost() if what[1] not in ("no endpoint", "no route")}


@pytest.mark.parametrize("size", [1, 3, 5])
def test_capacity_moves_in_rungs_and_nobody_is_lost(size: int) -> None:
    """The watchdog counts pods and weights at every write."""
    with served(18, replicas=size) as sim:
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: sim.md_status()["stable"]["model"] == V2, within=1200)
        at_rest(sim)
        assert sim.lost() == {}


def test_resized_in_the_middle_of_a_rollout() -> None:
    with served(19) as sim:
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: at_weight(sim, 20), within=300)
        sim.scale(4)
        sim.until(lambda: at_weight(sim, 50), within=300)
        sim.scale(2)
        sim.until(lambda: sim.md_status()["stable"]["model"] == V2, within=900)
        at_rest(sim)
        assert replicas(sim)[sim.stable()] == 2
        assert sim.lost() == {}


# The cluster


def test_no_room_for_the_candidate() -> None:
    sim = Sim(21, nodes=1, serves=True)
    with sim:
        sim.deploy(replicas=4)
        sim.start_operator()
        sim.until(lambda: sim.md_phase() == "Healthy", within=300)
        stable = sim.stable()
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: bool(sim.md_status()["rejected"]), within=600)
        status = at_rest(sim)
        assert status["rejected"][0]["reason"] == "InsufficientCapacity"
        assert sim.route_weights() == {stable: 100}
        assert replicas(sim)[stable] == 4
        assert sim.lost() == {}


@pytest.mark.parametrize("answer", [Answer(False, "NotAllowedByListeners", "not from here"), None])
def test_route_that_the_gateway_does_not_take_stops_the_rollout(answer: Answer | None) -> None:
    with served(22) as sim:
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: at_weight(sim, 20) and sim.md_status()["reason"] == "Stepping", within=300)
        sim.world.gateway.answer = lambda route, parent: answer
        sim.until(lambda: sim.md_status()["reason"] == "RouteNotAccepted", within=300)
        assert condition(sim, "Stalled")[0] == "True"
        weights, pods = sim.route_weights(), len(sim.engine_pods(sim.stable()))
        sim.run_for(200)
        assert sim.route_weights() == weights
        assert len(sim.engine_pods(sim.stable())) == pods, "requests still come as before"
        sim.world.gateway.answer = lambda route, parent: Answer()
        sim.until(lambda: sim.md_status()["stable"]["model"] == V2, within=900)
        at_rest(sim)
        assert sim.lost() == {}


def test_good_revision_repairs_a_service_that_hangs() -> None:
    """Nobody can be compared with it; it is the rollout that is needed most."""
    with Sim(31, serves=True) as sim:
        sim.publish("s3://models/v1", behaviour=Behaviour(hang_after=60))
        metrics = {"metrics": [{"name": "E2ELatency", "maxRegressionPercent": 20}], "minSamples": 15}
        sim.deploy(rollout={"analysis": metrics, "stallTimeout": "20s"})
        sim.start_operator()
        sim.until(lambda: sim.md_phase() == "Healthy", within=300)
        sim.run_for(90)
        hung = sim.stable()
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: at_weight(sim, 50), within=900)
        assert "stable answers nothing to compare with" in sim.md_status()["analysis"][0]["message"]
        sim.until(lambda: sim.stable() != hung, within=900)
        status = at_rest(sim)
        assert status["rejected"] == []
        assert sim.route_weights() == {sim.stable(): 100}
        assert not [what for what in sim.lost() if what[0] == sim.stable()]


def test_rollback_waits_for_a_slow_gateway_before_it_drains() -> None:
    """Until weight 0 holds at the data plane, the candidate's pods are still asked."""
    with served(32) as sim:
        stable = sim.stable()
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: at_weight(sim, 50) and sim.md_status()["rollout"].get("stepSince") is not None, within=300)
        revision = sim.canary()
        sim.world.gateway.answer = lambda route, parent: None
        sim.annotate("abort", f"{revision}/2")
        sim.until(lambda: sim.route_weights() == {stable: 100}, within=60)
        sim.run_for(45)
        assert sim.md_status()["rollout"]["stage"] == "RollingBack"
        assert "until weight 0 holds" in sim.md_status()["message"]
        assert len(sim.engine_pods(revision)) == 1, "it still gets its old share"
        sim.world.gateway.answer = lambda route, parent: Answer()
        assert at_rest(sim)["history"][-1]["outcome"] == "Aborted"
        assert sim.lost() == {}


def test_candidate_serves_alone_when_somebody_deletes_stable_in_mid_rollout() -> None:
    with served(33) as sim:
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: at_weight(sim, 20), within=300)
        old, revision = sim.stable(), sim.canary()
        sim.world.api.delete("apps", "deployments", sim.engine_deployments()[old], propagationPolicy="Background")
        sim.until(lambda: sim.route_weights() == {revision: 100}, within=30)
        status = at_rest(sim)
        assert status["stable"]["revision"] == revision
        assert replicas(sim) == {revision: 2}
        assert not [what for what in sim.lost() if what[0] == revision]


def test_lost_node_of_stable_is_not_the_candidates_fault() -> None:
    with served(23) as sim:
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: at_weight(sim, 50), within=300)
        sim.world.api.delete("", "pods", sim.engine_pods(sim.stable())[0])
        sim.until(lambda: sim.md_status()["stable"]["model"] == V2, within=900)
        status = at_rest(sim)
        assert status["rejected"] == []


def test_operator_away_in_the_middle_of_a_step() -> None:
    """Weights and pods stay; it goes on from there."""
    with served(24) as sim:
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: at_weight(sim, 20), within=300)
        weights, sizes = sim.route_weights(), replicas(sim)
        sim.kill()
        sim.run_for(1200)
        assert (sim.route_weights(), replicas(sim)) == (weights, sizes)
        sim.start_operator()
        sim.until(lambda: sim.md_status()["stable"]["model"] == V2, within=900)
        at_rest(sim)
        assert sim.lost() == {}


def test_engines_that_die_while_stable_alone_serves_are_replaced() -> None:
    with served(25) as sim:
        stable = sim.stable()
        sim.crash_pod(sim.engine_pods()[0])
        sim.world.api.delete("", "pods", sim.engine_pods()[1])
        sim.until(lambda: sim.md_phase() != "Healthy", within=60)
        sim.until(lambda: sim.md_phase() == "Healthy", within=120)
        assert at_rest(sim)["stable"]["revision"] == stable
        assert len(sim.md_status()["history"]) == 1


def test_deleted_deployment_takes_everything_with_it() -> None:
    with served(26) as sim:
        sim.edit_md(model={"uri": V2})
        sim.until(lambda: at_weight(sim, 20), within=300)
        sim.world.api.delete("finetune.dev", "modeldeployments", sim.md(), propagationPolicy="Background")
        sim.run_for(120)
        labels = {key: obj["metadata"].get("labels") or {} for key, obj in sim.world.server.store.all()}
        assert [key for key, found in labels.items() if "finetune.dev/deployment" in found] == []


# Two of them, and jobs


def test_two_deployments_on_one_gateway() -> None:
    with served(27) as sim:
        sim.publish("s3://models/other")
        sim.deploy("second", model={"uri": "s3://models/other"}, traffic={"hostnames": ["web.team.models.test"]})
        sim.run_for(60)
        assert sim.md_status("second")["conditions"][0]["status"] == "False", "that name is taken, or not allowed"
        assert sim.md_status("second").get("stable") is None
        sim.edit_md("second", traffic={"hostnames": ["second.team.example.test"]})
        sim.until(lambda: sim.md_phase("second") == "Healthy", within=300)
        assert sim.route_weights() == {sim.stable(): 100}
        assert sim.lost() == {}


def test_names_a_job_that_runs_and_then_serves_it() -> None:
    with Sim(28, serves=True) as sim:
        sim.deploy(model={"uri": None, "fineTuneJobRef": {"name": "bot"}})
        sim.start_operator()
        sim.until(lambda: sim.md_status().get("reason") == "WaitingForFineTuneJob", within=60)
        sim.submit()
        sim.run_for(40)
        assert sim.md_status()["reason"] == "WaitingForFineTuneJob"
        assert sim.engine_pods() == []
        sim.until(lambda: sim.md_phase() == "Healthy", within=900)
        assert sim.phase() == "Succeeded"
        assert sim.md_status()["stable"]["job"] == "bot"


def test_newest_of_several_jobs_is_delivered() -> None:
    with Sim(29, serves=True, nodes=6) as sim:
        selector = {"matchLabels": {"app": "bot"}}
        sim.deploy(model={"uri": None, "fineTuneJobSelector": selector})
        sim.start_operator()
        for number, name in enumerate(("one", "two"), 1):
            sim.submit(name, labels={"app": "bot"})
            sim.until(lambda name=name: (sim.md_status().get("stable") or {}).get("job") == name, within=1800)
            sim.settle(60)
            assert len(sim.md_status()["history"]) == number
        assert sim.lost() == {}
