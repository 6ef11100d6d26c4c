"""An attempt from its intent to its end: what is made, what is waited for, what ends it, what follows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from finetune_operator.core.types import Sample
from tests.core.build import (
    CONFIG,
    GANG,
    attempt,
    batch_job,
    checkpoint,
    condition_of,
    decide,
    ended,
    ftj,
    node,
    pod,
    preflight_pod,
    progress,
    report,
    running,
    seen,
    status,
    then,
    ts,
    words,
)

PODS = (pod(0), pod(1))


def open_world(**more: object):
    return seen(ftj(status=status(running())), jobs=(batch_job(),), pods=PODS, **more)  # type: ignore[arg-type]


def test_children_follow_the_recorded_intent_in_order_and_once() -> None:
    world = seen(ftj(status=status(attempt())), gang_service=None)
    made = decide(world)
    assert [c["kind"] for c in made.creates] == ["Service", "NetworkPolicy", "Secret", "Job"]
    job = made.creates[-1]
    assert job["metadata"]["name"] == "bot-1"
    assert job["spec"]["completions"] == 2
    assert job["spec"]["backoffLimit"] == 0
    assert decide(world).creates == made.creates


def test_trainer_pods_are_restricted_and_hold_no_api_token() -> None:
    job = decide(seen(ftj(status=status(attempt())))).creates[-1]
    spec = job["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_the_run_token_is_in_the_secret_and_nowhere_else() -> None:
    made = decide(seen(ftj(status=status(attempt()))))
    secret = next(c for c in made.creates if c["kind"] == "Secret")
    token = secret["stringData"]["token"]
    assert len(token) == 64
    assert token not in json.dumps([c for c in made.creates if c["kind"] != "Secret"])
    assert token not in repr(decide(open_world()).probe)


def test_the_job_is_noticed_and_running_is_recorded() -> None:
    world = seen(ftj(status=status(attempt())), jobs=(batch_job(),), pods=PODS)
    made = decide(world)
    assert made.status is not None
    assert made.status["phase"] == "Running"
    assert made.status["attempts"][0]["jobUid"] == "uid-job-1"
    assert made.status["attempts"][0]["runningAt"] == ts(120)
    assert condition_of(made, "Ready")["status"] == "True"
    again = decide(then(world, made))
    assert not again.writes


def test_a_spot_taint_asks_for_a_checkpoint_and_stop() -> None:
    world = open_world(nodes=(node("node-2", taint="karpenter.sh/disrupted"),))
    made = decide(world)
    assert made.status is not None
    assert made.status["preemptions"] == [
        {"attempt": 1, "node": "node-2", "source": "karpenter.sh/disrupted", "noticedAt": ts(120)}
    ]
    assert made.probe is not None
    assert made.probe.stop == "karpenter.sh/disrupted"
    assert made.deletes == ()


def test_a_cordon_asks_for_a_checkpoint_only() -> None:
    made = decide(open_world(nodes=(node("node-1", cordoned=True),)))
    assert made.probe is not None
    assert made.probe.stop is None
    assert made.probe.checkpoint == "Cordoned node-1"


def test_a_preempted_gang_is_followed_at_once_by_the_next_attempt() -> None:
    last = words(0, 85, step=40, start_step=0, running_at=ts(20), stop_requested_at=ts(94), checkpoint=checkpoint(40))
    preemption = {"attempt": 1, "node": "node-2", "source": "spot", "noticedAt": ts(93)}
    world = seen(
        ftj(status=status(running(), preemptions=[preemption])),
        jobs=(batch_job(1, "FailureTarget", "Failed"),),
        pods=(pod(0, code=85, words=last), pod(1, code=85)),
    )
    made = decide(world)
    assert made.status is not None
    first, second = made.status["attempts"]
    assert (first["outcome"], first["committedStep"], first["endStep"]) == ("Preempted", 40, 40)
    assert second["index"] == 2
    assert made.status["restarts"] == 0
    assert made.status["totals"]["preemptions"] == 1
    assert made.status["checkpoint"]["step"] == 40
    assert made.status["preemptions"][0] == preemption | {
        "checkpointRequestedAt": ts(94),
        "checkpointCommittedAt": ts(95),
        "checkpointStep": 40,
        "podsReleasedAt": ts(120),
    }
    assert made.creates == ()
    next_pass = decide(then(world, made))
    assert [c["metadata"]["name"] for c in next_pass.creates if c["kind"] == "Job"] == ["bot-2"]
    config = json.loads(next_pass.creates[-1]["spec"]["template"]["metadata"]["annotations"]["finetune.dev/run-config"])
    assert config["attempt"] == 2
    assert config["requireCheckpoint"] is True


def test_resuming_closes_the_books_on_the_attempt_before() -> None:
    before = ended(1, "Preempted", startStep=0, endStep=42, committedStep=40, resumedAt=ts(20))
    preemption = {"attempt": 1, "node": "node-2", "source": "spot", "noticedAt": ts(93)}
    world = seen(
        ftj(status=status(before, running(2), preemptions=[preemption])),
        jobs=(batch_job(2),),
        pods=(pod(0, attempt=2), pod(1, attempt=2)),
        sample=progress(41, attempt=2, start_step=40, running_at=ts(110)),
    )
    made = decide(world)
    assert made.status is not None
    assert made.status["preemptions"][0]["resumedAt"] == ts(110)
    assert made.status["preemptions"][0]["lostSteps"] == 2
    assert made.status["attempts"][0]["lostSteps"] == 2
    # 80 s of training for 42 steps on 2 GPUs, of which 2 steps were lost
    assert made.status["totals"]["wastedGpuSeconds"]["preemption"] == round(80 * 2 / 42 * 2)


def test_a_killed_pod_counts_as_a_restart_and_backs_off() -> None:
    world = seen(
        ftj(status=status(running(committedStep=10))),
        jobs=(batch_job(1, "FailureTarget", "Failed"),),
        pods=(pod(0, code=75, finished=101), pod(1, code=137, finished=100)),
    )
    made = decide(world, 102)
    assert made.status is not None
    assert made.status["restarts"] == 1
    assert made.status["attempts"][0]["outcome"] == "Error"
    assert "signal 9" in made.status["attempts"][0]["message"]
    assert made.status["phase"] == "Recovering"
    assert made.status["reason"] == "BackOff"
    waiting = then(world, made)
    assert decide(waiting, 105).requeue_after == 6.0
    later = decide(waiting, 112)
    assert later.status is not None
    assert [a["index"] for a in later.status["attempts"]] == [1, 2]


def test_survivors_deleted_by_the_job_controller_are_no_preemption() -> None:
    world = seen(
        ftj(status=status(running())),
        jobs=(batch_job(),),
        pods=(pod(0, deleting=True), pod(1, code=70)),
    )
    made = decide(world)
    assert (made.status or {}).get("preemptions", []) == []


def test_a_deleted_pod_is_a_preemption() -> None:
    made = decide(open_world()).status
    world = seen(ftj(status=status(running())), jobs=(batch_job(),), pods=(pod(0), pod(1, deleting=True)))
    made = decide(world).status
    assert made is not None
    assert made["preemptions"][0]["source"] == "PodDeleted"


def test_a_lost_node_ends_the_attempt_without_waiting_for_its_pods() -> None:
    lost = (node("node-2", ready="Unknown"),)
    world = open_world(nodes=lost)
    decided = decide(world)
    assert decided.status is not None
    assert decided.status["attempts"][0]["stopping"] == "NodeLost"
    assert decided.deletes == ()
    world = then(world, decided)
    assert decide(replace(world, fresh=False)).need_fresh
    deletes = decide(world).deletes
    assert [(d.resource.kind, d.uid) for d in deletes] == [("Secret", None), ("Job", "uid-job-1")]
    world = replace(
        world,
        jobs=(batch_job(1, deletionTimestamp=ts(121)),),
        pods=(pod(0, deleting=True), pod(1, deleting=True)),
    )
    made = decide(world)
    assert made.status is not None
    assert [a.get("outcome") for a in made.status["attempts"]] == ["NodeLost", None]
    assert made.status["preemptions"][0]["node"] == "node-2"


def test_suspend_deletes_the_job_and_keeps_the_attempt_number() -> None:
    world = seen(ftj({"suspend": True}, status=status(running())), jobs=(batch_job(),), pods=PODS)
    decided = decide(world)
    assert decided.status is not None
    assert decided.status["attempts"][0]["stopping"] == "Suspended"
    world = then(world, decided)
    assert decide(world).deletes[-1].name == "bot-1"
    gone = (pod(0, code=85, words=words(0, 85, step=7, checkpoint=checkpoint(7))), pod(1, code=85))
    world = replace(world, jobs=(), pods=gone, gone_pods=frozenset(p["metadata"]["uid"] for p in gone))
    made = decide(world)
    assert made.status is not None
    assert made.status["phase"] == "Suspended"
    assert made.status["attempts"][0]["outcome"] == "Suspended"
    assert "step 7" in made.status["message"]
    resumed = then(world, made)
    resumed = replace(resumed, job={**resumed.job, "spec": {**resumed.job["spec"], "suspend": False}})
    again = decide(resumed)
    assert again.status is not None
    assert [a["index"] for a in again.status["attempts"]] == [1, 2]
    assert again.status["restarts"] == 0


def test_start_timeout_names_its_cause() -> None:
    stuck = attempt(jobUid="uid-job-1", startedAt=ts(11))
    world = seen(
        ftj({"scheduling": {"startTimeout": "1m"}}, status=status(stuck)),
        jobs=(batch_job(),),
        pods=(pod(0), pod(1, phase="Pending", waiting=("ImagePullBackOff", "not found"))),
    )
    assert decide(world, 60).requeue_after == 11.0
    made = decide(world, 72)
    assert made.status is not None
    assert made.status["attempts"][0]["stopping"] == "StartTimeout"
    assert "1 of 2 pods" in made.status["attempts"][0]["message"]
    assert "ImagePullBackOff" in made.status["attempts"][0]["message"]


def test_a_failed_poll_harms_nothing() -> None:
    world = open_world(sample=progress(5))
    assert world.sample is not None
    failing = replace(world, sample=replace(world.sample, progress=None))
    made = decide(failing)
    assert made.deletes == ()
    assert (made.status or {"phase": "Running"})["phase"] == "Running"


def test_progress_is_written_at_a_bounded_rate() -> None:
    world = open_world(sample=progress(5))
    made = decide(world, 60)
    assert made.status is not None
    assert made.status["progress"]["summary"] == "5/100 5%"
    assert made.status["progress"]["lossText"] == "1.5"
    world = replace(then(world, made), sample=replace(world.sample, progress=progress(6)))
    early = decide(world, 65)
    assert not early.writes
    assert early.requeue_after == 10.0
    late = decide(world, 76)
    assert late.status is not None
    assert late.status["progress"]["step"] == 6


def test_what_the_trainer_decided_is_shown() -> None:
    sizes: dict[str, Any] = {"global_batch_size": 8, "micro_batch_size": 2, "gradient_accumulation": 4, "world_size": 1}
    sizes |= {"strategy": "FSDP", "strategy_why": "DDP does not fit"}
    told = progress(5, **sizes, checkpoint_interval_seconds=587.9, skipped_steps=3, slowest_rank=1, slowest_ratio=2.0)
    status_ = decide(open_world(sample=told), 60).status
    assert status_ is not None
    assert status_["resolved"]["checkpointInterval"] == "9m48s"
    assert (status_["resolved"]["strategy"], status_["resolved"]["strategyWhy"]) == ("FSDP", "DDP does not fit")
    assert status_["progress"]["skippedSteps"] == 3
    assert status_["progress"]["slowestRank"] == 1
    quiet = decide(open_world(sample=progress(5, **sizes)), 60).status
    assert quiet is not None
    assert not {"skippedSteps", "slowestRank"} & quiet["progress"].keys()


def test_completion_moves_on_to_publishing_in_two_steps() -> None:
    final = words(0, 0, step=100, running_at=ts(20), checkpoint=checkpoint(100))
    world = seen(
        ftj(status=status(running(), progress={"summary": "x", "step": 90, "totalSteps": 100, "updatedAt": ts(90)})),
        jobs=(batch_job(1, "Complete"),),
        pods=(pod(0, code=0, words=final), pod(1, code=0)),
    )
    made = decide(world)
    assert made.status is not None
    assert made.status["attempts"][0]["outcome"] == "Succeeded"
    assert made.status["progress"]["summary"] == "100/100 100%"
    publishing = decide(then(world, made))
    assert publishing.status is not None
    assert publishing.status["publish"]["index"] == 1
    assert publishing.status["phase"] == "Publishing"
    assert publishing.creates == ()


def test_a_job_deleted_by_others_is_replaced_and_not_counted() -> None:
    world = seen(ftj(status=status(running(committedStep=5))), gone=PODS)
    made = decide(world)
    assert made.status is not None
    assert made.status["attempts"][0]["outcome"] == "Deleted"
    assert made.status["restarts"] == 0
    assert decide(replace(world, fresh=False)).need_fresh


def test_a_foreign_object_is_named_and_never_touched() -> None:
    world = seen(
        ftj(status=status(attempt())), conflicts={"Service/finetune-gang": "Service finetune-gang is not ours"}
    )
    made = decide(world)
    assert condition_of(made, "Accepted")["reason"] == "NameConflict"
    assert "finetune-gang" in condition_of(made, "Accepted")["message"]
    assert made.deletes == ()
    assert made.patches == ()
    assert made.requeue_after == 30.0


def test_spec_drift_starts_nothing_new() -> None:
    drifted = ftj({"training": {"seed": 7}}, status=status(ended(1, "Preempted", committedStep=5)))
    made = decide(seen(drifted))
    assert made.status is not None
    assert made.status["reason"] == "SpecDrift"
    assert len(made.status["attempts"]) == 1


def test_a_job_being_deleted_is_left_to_the_garbage_collector() -> None:
    world = seen(ftj(status=status(running()), deletionTimestamp=ts(100)), jobs=(batch_job(),), pods=PODS)
    assert not decide(world).writes


def test_the_network_policy_can_be_turned_off() -> None:
    made = decide(seen(ftj(status=status(attempt()))), config=replace(CONFIG, network_policies=False))
    assert [c["kind"] for c in made.creates] == ["Secret", "Job"]


def test_a_periodic_commit_before_the_request_is_not_the_answer_to_it() -> None:
    preemption = {"attempt": 1, "node": "node-2", "source": "spot", "noticedAt": ts(50)}
    periodic = progress(
        40, at_seconds=60, stop_requested_at="2026-01-01T12:00:50.700Z", checkpoint=checkpoint(40, at_seconds=50)
    )
    world = seen(
        ftj(status=status(running(), preemptions=[preemption])), jobs=(batch_job(),), pods=PODS, sample=periodic
    )
    made = decide(world, 61)
    assert made.status is not None
    assert "checkpointCommittedAt" not in made.status["preemptions"][0]
    answered = periodic.model_copy(
        update={"checkpoint": periodic.checkpoint.model_copy(update={"step": 44, "at": ts(52)})}
    )
    world = replace(then(world, made), sample=Sample(1, answered))
    made = decide(world, 62)
    assert made.status is not None
    assert made.status["preemptions"][0]["checkpointStep"] == 44


def test_the_installations_claim_is_mounted() -> None:
    made = decide(seen(ftj(status=status(attempt()))), config=replace(CONFIG, artifacts_uri="pvc://store/runs"))
    volumes = made.creates[-1]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "claim-0", "persistentVolumeClaim": {"claimName": "store"}} in volumes


def test_a_job_made_again_counts_its_attempts_from_above_the_fences_of_its_run() -> None:
    made = decide(seen(ftj(), pods=(preflight_pod(report(highest_fence=3)),)))
    assert made.status is not None
    assert [a["index"] for a in made.status["attempts"]] == [4]
    assert made.status["phase"] == "Queued"


def test_a_running_gang_keeps_its_names_when_the_owners_of_the_service_are_gone() -> None:
    made = decide(open_world(gang_service=None))
    assert [c["kind"] for c in made.creates] == ["Service"]


def test_up_to_four_jobs_own_the_service() -> None:
    def owned_by(*uids: str) -> dict[str, object]:
        refs = [{"uid": uid} for uid in uids]
        return {"metadata": {**GANG["metadata"], "ownerReferences": refs}}

    (patch,) = decide(open_world(gang_service=owned_by("a", "b", "c"))).patches
    assert [ref["uid"] for ref in patch.body["metadata"]["ownerReferences"]] == ["a", "b", "c", "uid-bot"]
    assert patch.body["metadata"]["resourceVersion"] == "5"
    assert decide(open_world(gang_service=owned_by("a", "b", "c", "d"))).patches == ()
