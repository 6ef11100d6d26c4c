"""A candidate's way in and out, pass by pass: weights only on ready pods, decisions stored first, failures in words."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.core.serving.analysis.totals import Totals
from finetune_operator.core.serving.types import EngineView
from tests.core.serving.world import DIGEST_1, World, serving


def served(**more: Any) -> World:
    """Revision one is stable, with two replicas."""
    world = World(serving("one", replicas=2, **more)).settle()
    assert world.status is not None
    assert world.status["phase"] == "Healthy", world.status
    return world


def stable(world: World) -> str:
    assert world.status is not None
    return str(world.status["stable"]["revision"])


def canary(world: World) -> str:
    assert world.status is not None
    return str(world.status["canary"]["revision"])


def roll(world: World, job: str = "two") -> World:
    return world.edit(model={"fineTuneJobRef": {"name": job}}).settle()


def test_the_first_revision_is_verified_checked_and_gets_every_request() -> None:
    world = served()
    assert world.weights() == {stable(world): 100}
    assert world.status is not None
    assert world.status["ready"] == "2/2"
    assert world.status["stable"]["digest"] == DIGEST_1
    assert world.status["history"][-1]["outcome"] == "Promoted"
    assert {c["type"]: c["status"] for c in world.status["conditions"]} == {
        "Accepted": "True",
        "Available": "True",
        "Progressing": "False",
        "Promoted": "True",
        "RolledBack": "False",
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
    }
    assert not [key for key in world.objects if key[0] == "Job"], "answered Jobs are removed"
    assert not world.step(), "a second pass writes nothing"


def test_a_job_that_still_trains_is_waited_for_in_words() -> None:
    world = World(serving("one"))
    world.jobs[0]["status"] = {"phase": "Running", "progress": {"summary": "420/1000 42%"}}
    world.settle()
    assert world.status is not None
    assert world.status["phase"] == "Pending"
    assert "420/1000 42%" in world.status["message"]
    assert world.condition("Accepted")["reason"] == "WaitingForFineTuneJob"
    assert not world.objects


def test_weights_rise_step_by_step_and_the_old_revision_drains() -> None:
    world = roll(served())
    old, new = stable(world), canary(world)
    assert world.weights() == {old: 80, new: 20}
    assert world.status is not None
    assert world.status["step"] == "1/2"
    world.run(25)
    assert world.weights() == {old: 80, new: 20}, "the pause is not over"
    world.run(10)
    assert world.weights() == {old: 50, new: 50}
    world.run(40)
    assert world.weights() == {new: 100}
    assert stable(world) == new
    world.run(60)
    assert world.status is not None
    assert world.status["phase"] == "Healthy"
    assert world.status.get("draining", []) == []
    assert len(world.engine_pods(old)) == 0
    assert len(world.engine_pods(new)) == 2
    assert world.most_pods <= 3, "replicas + maxSurge"
    assert [e.reason for e in world.events if e.reason in ("Promoted", "Drained")] == [
        "Promoted",
        "Promoted",
        "Drained",
    ]


def test_an_engine_that_still_works_is_not_scaled_down_before_its_drain_timeout() -> None:
    world = roll(served())
    old = stable(world)
    world.views = {p["metadata"]["name"]: EngineView(old, running=1) for p in world.engine_pods(old)}
    world.run(120)
    assert stable(world) != old
    assert world.engine_pods(old), "it has a running request"
    world.run(320, every=20)
    assert not world.engine_pods(old), "drainTimeout is over"


CLEAN = {"analysis": {"metrics": [{"name": "ErrorRate", "max": "0.05"}], "minSamples": 20}}


def test_a_failed_metric_takes_it_back_and_says_why() -> None:
    world = roll(served(rollout=CLEAN))
    old, new = stable(world), canary(world)
    world.totals = {old: Totals(requests=400, errors=0), new: Totals(requests=100, errors=60)}
    world.run(20)
    assert world.weights() == {old: 100}
    assert world.status is not None
    assert world.status["history"][-1]["reason"] == "AnalysisFailed"
    assert "60 of 100" in world.status["history"][-1]["message"]
    assert world.status["phase"] == "Healthy"
    assert world.condition("Stalled")["status"] == "True"
    assert world.condition("Ready")["status"] == "False"
    assert world.condition("RolledBack")["status"] == "True"
    assert f"finetune.dev/retry={new}" in world.status["message"]
    world.run(600, every=30)
    assert world.weights() == {old: 100}, "it is not tried again by itself"
    assert not world.engine_pods(new)
    world.annotations["finetune.dev/retry"] = new
    world.totals = {}
    world.settle()
    assert world.weights() == {old: 80, new: 20}


def test_a_step_waits_for_the_analysis_and_gives_up_in_the_end() -> None:
    world = roll(served(rollout={"analysis": {**CLEAN["analysis"], "maxInconclusive": "5m"}}))
    old, new = stable(world), canary(world)
    world.totals = {old: Totals(requests=10), new: Totals(requests=3)}
    world.run(120)
    assert world.weights() == {old: 80, new: 20}
    assert world.status is not None
    assert "waits for the analysis" in world.status["message"]
    world.run(240, every=20)
    assert world.weights() == {old: 100}
    assert world.status["history"][-1]["reason"] == "AnalysisInconclusive"


def test_a_refused_model_gets_no_pods() -> None:
    world = served()
    old = stable(world)
    world.verify = lambda _: {"exitCode": 76, "reason": "GateFailed", "message": "exactMatch 0.2 < min 0.9"}
    roll(world)
    assert world.status is not None
    assert world.weights() == {old: 100}
    assert world.status["history"][-1]["reason"] == "GateFailed"
    assert len(world.engine_pods()) == 2
    assert [k for k in world.objects if k[0] == "Deployment"] == [("Deployment", f"bot-{old}")]


def test_wrong_answers_are_found_before_any_weight() -> None:
    world = served()
    old = stable(world)
    world.check = lambda _: {"exitCode": 76, "reason": "QualityFailed", "message": "exactMatch 0.1 of 64, stable 1.0"}
    roll(world)
    assert world.weights() == {old: 100}
    assert world.status is not None
    assert world.status["history"][-1]["weight"] == 0
    assert world.condition("Stalled")["reason"] == "QualityFailed"


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (EngineView("", failed_scrapes=3), "EngineUnreachable"),
        (EngineView("", synthetic_error="timed out after 60 s"), "SyntheticRequestFailed"),
        (EngineView("", running=2, busy_since=World({}).now), "EngineStalled"),
    ],
)
def test_signals_that_need_no_samples(view: EngineView, reason: str) -> None:
    world = roll(served())
    old, new = stable(world), canary(world)
    pod = world.engine_pods(new)[0]["metadata"]["name"]
    world.views[pod] = EngineView(new, view.failed_scrapes, view.running, 0, view.busy_since, view.synthetic_error)
    world.advance(61).settle()
    assert world.weights() == {old: 100}
    assert world.status is not None
    assert world.status["history"][-1]["reason"] == reason
    assert pod in world.status["history"][-1]["message"]


def test_what_both_revisions_show_alike_is_no_verdict_on_the_candidate() -> None:
    world = roll(served())
    old, new = stable(world), canary(world)
    world.views = {
        p["metadata"]["name"]: EngineView(p["metadata"]["labels"]["finetune.dev/revision"], failed_scrapes=9)
        for p in world.engine_pods()
    }
    world.run(10)
    assert world.weights() == {old: 80, new: 20}


def test_an_engine_that_ends_with_traffic_on_it() -> None:
    world = roll(served())
    old, new = stable(world), canary(world)
    world.advance(5)
    ended = {"terminated": {"exitCode": 139, "reason": "Error", "finishedAt": world.stamp}}
    world.rewrite(
        world.engine_pods(new)[0]["metadata"]["name"],
        containerStatuses=[{"name": "main", "restartCount": 1, "state": {"running": {}}, "lastState": ended}],
    )
    world.settle()
    assert world.weights() == {old: 100}
    assert world.status is not None
    assert "exit code 139" in world.status["history"][-1]["message"]


def test_a_pod_that_is_evicted_is_not_the_revisions_fault() -> None:
    world = roll(served())
    old, new = stable(world), canary(world)
    pod = world.engine_pods(new)[0]["metadata"]["name"]
    world.rewrite(
        pod,
        conditions=[
            {"type": "DisruptionTarget", "status": "True"},
            {"type": "Ready", "status": "False", "lastTransitionTime": world.stamp},
        ],
    )
    world.advance(15).settle()
    assert world.weights() == {old: 100}, "no ready pod, no weight"
    assert canary(world) == new, "but it is still being let in"


def test_no_room_for_the_candidate() -> None:
    world = served()
    old = stable(world)
    world.room = 2
    roll(world)
    assert world.weights() == {old: 100}
    world.run(620, every=30)
    assert world.status is not None
    assert world.status["history"][-1]["reason"] == "InsufficientCapacity"
    assert "0/2 nodes: no gpu" in world.status["history"][-1]["message"]
    assert len(world.engine_pods(old)) == 2


MANUAL = {"steps": [{"weight": 20, "pause": "Manual"}]}


def test_a_manual_pause_waits_for_exactly_this_revision_and_step() -> None:
    world = roll(served(rollout=MANUAL))
    old, new = stable(world), canary(world)
    world.run(3600, every=600)
    assert world.status is not None
    assert world.status["phase"] == "Paused"
    assert f"finetune.dev/promote={new}/1" in world.status["message"]
    world.annotations["finetune.dev/promote"] = f"{old}/1"
    world.settle()
    assert world.weights() == {old: 80, new: 20}
    assert [e for e in world.events if e.reason == "AnnotationIgnored"]
    world.annotations["finetune.dev/promote"] = f"{new}/1"
    world.settle()
    assert world.weights() == {new: 100}


def test_abort_takes_it_back_for_good() -> None:
    world = roll(served(rollout=MANUAL))
    old, new = stable(world), canary(world)
    world.annotations["finetune.dev/abort"] = f"{new}/1"
    world.settle()
    assert world.weights() == {old: 100}
    assert world.status is not None
    assert world.status["history"][-1]["outcome"] == "Aborted"
    world.run(900, every=60)
    assert world.weights() == {old: 100}


def test_a_revert_in_mid_rollout_ends_where_it_began() -> None:
    world = served()
    old = stable(world)
    before = {k: o["spec"] for k, o in world.objects.items()}
    roll(world)
    roll(world, "one")
    world.run(120)
    assert world.weights() == {old: 100}
    assert world.status is not None
    assert world.status["phase"] == "Healthy"
    assert world.condition("Ready")["status"] == "True"
    assert world.status["rejected"] == []
    assert {k: o["spec"] for k, o in world.objects.items() if k in before} == before


def test_a_third_revision_in_mid_rollout_replaces_the_second() -> None:
    world = roll(served())
    second = canary(world)
    world.edit(engine={"maxModelLen": 256}).settle()
    world.run(30)
    third = canary(world)
    assert third not in (second, stable(world))
    world.run(200)
    assert stable(world) == third
    assert not world.engine_pods(second)
    assert world.most_pods <= 3


def test_an_operator_default_starts_no_rollout() -> None:
    world = served()
    world.config = type(world.config)(
        **{**vars(world.config), "serving_image": "vllm:2", "gateway_domain": "models.example.com"}
    )
    assert not world.step()


def test_replicas_follow_the_spec_at_once() -> None:
    world = served()
    world.edit(replicas=3).settle()
    assert len(world.engine_pods()) == 3
    world.edit(replicas=0).settle()
    assert not world.engine_pods()
    assert world.status is not None
    assert world.status["phase"] == "Healthy"
    world.edit(replicas=1).settle()
    assert world.status["ready"] == "1/1"


def test_a_route_that_the_gateway_refuses_stops_the_rollout() -> None:
    world = served()
    old = stable(world)
    world.route_accepts = False
    roll(world)
    world.run(300, every=30)
    assert world.status is not None
    assert world.status["reason"] == "RouteNotAccepted"
    assert world.condition("Stalled")["status"] == "True"
    assert world.status["step"] == "1/2"
    world.route_accepts = True
    world.run(120)
    assert stable(world) != old


@pytest.mark.parametrize("passes", range(24))
def test_a_wiped_status_comes_back_without_a_new_rollout(passes: int) -> None:
    world = served()
    old = stable(world)
    world.edit(model={"fineTuneJobRef": {"name": "two"}})
    for _ in range(passes):
        world.step()
    weights, started = world.weights(), len([e for e in world.events if e.reason == "RolloutStarted"])
    world.status = None
    world.step()
    assert set(world.weights()) == set(weights) | {old}
    world.run(200)
    assert world.status is not None
    assert world.status["phase"] == "Healthy"
    assert stable(world) != old
    assert len([e for e in world.events if e.reason == "RolloutStarted"]) <= started + 1


def test_a_wiped_status_forgets_no_rejection() -> None:
    world = served()
    old = stable(world)
    world.check = lambda _: {"exitCode": 76, "reason": "QualityFailed", "message": "worse"}
    roll(world)
    world.status = None
    world.run(120)
    assert world.weights() == {old: 100}
    assert world.condition("Stalled")["reason"] == "QualityFailed"
    assert len([e for e in world.events if e.reason == "RolloutStarted"]) == 2, "the first one and the rejected one"


def test_history_keeps_a_few_former_revisions_at_zero() -> None:
    world = served(rollout={"steps": [], "history": 1})
    for length in (128, 256, 512):
        world.edit(engine={"maxModelLen": length}).run(60)
    deployments = [k for k in world.objects if k[0] == "Deployment"]
    assert len(deployments) == 2
    assert len([k for k in world.objects if k[0] == "Service"]) == 2
    assert len(world.engine_pods()) == 2


def test_a_rollback_drains_only_when_the_gateway_took_weight_zero_over() -> None:
    world = roll(served())
    old, new = stable(world), canary(world)
    world.route_accepts = False
    world.annotations["finetune.dev/abort"] = f"{new}/1"
    world.settle().run(50)
    assert world.weights() == {old: 100}
    assert world.status is not None
    assert world.status["rollout"]["stage"] == "RollingBack"
    assert "until weight 0 holds: " in world.status["message"]
    assert world.status.get("draining", []) == []
    world.route_accepts = True
    world.settle()
    assert world.status["history"][-1]["outcome"] == "Aborted"
    assert [entry["revision"] for entry in world.status["draining"]] == [new]


def test_a_gateway_that_never_answers_does_not_hold_a_rollback_for_ever() -> None:
    world = roll(served())
    new = canary(world)
    world.route_accepts = False
    world.annotations["finetune.dev/abort"] = f"{new}/1"
    world.run(70)
    assert world.status is not None
    assert world.status["history"][-1]["outcome"] == "Aborted"
    assert not world.step(), "a second pass writes nothing"


@pytest.mark.parametrize("soon", [True, False])
def test_a_candidate_takes_over_when_somebody_deletes_stable(soon: bool) -> None:
    """At its first weight, or while it is still being checked: nothing else answers."""
    world = served()
    old = stable(world)
    world.room = 2 if soon else 100
    roll(world)
    new = canary(world)
    assert world.weights() == ({old: 100} if soon else {old: 80, new: 20})
    del world.objects["Deployment", f"bot-{old}"]
    world.run(10)
    assert world.status is not None
    world.run(30)
    assert world.weights() == {new: 100}
    assert stable(world) == new
    assert world.status["history"][-1]["outcome"] == "Promoted"
    world.run(60)
    assert world.status["phase"] == "Healthy"
    assert len(world.engine_pods(new)) == 2
    assert not world.step(), "a second pass writes nothing"
