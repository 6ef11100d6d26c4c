"""Publishing: one Job, a gate that costs no retraining, tries that survive the pod's end."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from finetune_api.reports import PublishedModel, PublishReport
from finetune_api.runkey import publish_digest
from finetune_operator.core.plan import parse_spec
from tests.core.build import CONFIG, batch_job, condition_of, decide, ended, ftj, pod, seen, status, then, ts

GATE = {"gate": [{"metric": "exactMatch", "passed": False, "message": "exactMatch 0.4 < min 0.9"}]}


def publish(spec: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "index": 1,
        "specDigest": publish_digest(parse_spec(ftj(spec))),
        "job": "bot-publish-1",
        "createdAt": ts(100),
        **fields,
    }


def trained(spec: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return ftj(spec, status=status(ended(1, "Succeeded"), **{"phase": "Publishing", "publish": publish(), **fields}))


def publish_job(*conditions: str) -> dict[str, Any]:
    job = batch_job(1, *conditions)
    job["metadata"] |= {"name": "bot-publish-1", "uid": "uid-pub-1"}
    job["metadata"]["labels"]["finetune.dev/role"] = "publisher"
    return job


def publish_pod(code: int | None = None, report: PublishReport | None = None, **more: Any) -> dict[str, Any]:
    made = pod(0, code=code, **more)
    made["metadata"]["labels"]["finetune.dev/role"] = "publisher"
    made["metadata"]["ownerReferences"] = [{"uid": "uid-pub-1"}]
    if report is not None:
        made["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = json.dumps(report.to_wire())
    return made


def report(code: int, **fields: Any) -> PublishReport:
    return PublishReport.model_validate(
        {"exitCode": code, "reason": "r", "message": "exactMatch 0.4 < min 0.9", "at": ts(120), **fields}
    )


def test_the_job_is_made_from_the_recorded_try() -> None:
    made = decide(seen(trained()))
    (job,) = made.creates
    assert job["metadata"]["name"] == "bot-publish-1"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["publish"]


def test_success_puts_the_output_into_status() -> None:
    output = PublishedModel(uri="s3://a/m", digest="sha256:1", manifest="s3://a/m/MANIFEST.json", merged=True)
    done = report(0, output=output.to_wire(), gatePassed=True, metrics={"exactMatch": {"final": 0.95, "samples": 64}})
    made = decide(
        seen(trained(), jobs=(publish_job("Complete"),), pods=(publish_pod(0, done),)),
    )
    assert made.status is not None
    assert made.status["phase"] == "Succeeded"
    assert made.status["output"]["uri"] == "s3://a/m"
    assert made.status["evaluation"]["metrics"]["exactMatch"]["final"] == 0.95
    assert condition_of(made, "Complete")["status"] == "True"


def test_a_failed_gate_fails_the_job_and_relaxing_it_publishes_again() -> None:
    world = seen(trained(), jobs=(publish_job("Failed"),), pods=(publish_pod(76, report(76, **GATE)),))
    made = decide(world)
    assert made.status is not None
    assert made.status["phase"] == "Failed"
    assert made.status["reason"] == "GateFailed"
    assert "exactMatch 0.4 < min 0.9" in made.status["message"]
    failed = then(world, made)
    assert not decide(failed).writes
    relaxed = replace(
        failed,
        job=failed.job
        | {"spec": {**failed.job["spec"], "evaluation": {"gate": [{"metric": "exactMatch", "min": "0.3"}]}}},
    )
    again = decide(relaxed)
    assert again.status is not None
    assert again.status["publish"]["index"] == 2
    assert again.status["phase"] == "Publishing"
    assert len(again.status["attempts"]) == 1


def test_a_preempted_try_is_repeated_for_free() -> None:
    world = seen(trained(), jobs=(publish_job("Failed"),), pods=(publish_pod(137, disrupted="EvictionByEvictionAPI"),))
    made = decide(world)
    assert made.status is not None
    assert made.status["publish"]["index"] == 2
    assert made.status["publish"]["failures"] == 0


def test_a_crashed_try_backs_off() -> None:
    world = seen(trained(), jobs=(publish_job("Failed"),), pods=(publish_pod(70),))
    made = decide(world, 105)
    assert made.status is not None
    assert made.status["publish"]["failures"] == 1
    assert made.status["reason"] == "BackOff"
    later = decide(then(world, made), 111)
    assert later.status is not None
    assert later.status["publish"]["index"] == 2


def test_a_lost_node_does_not_hold_publishing_up() -> None:
    lost = {
        "metadata": {"name": "node-1"},
        "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
    }
    world = seen(trained(), jobs=(publish_job(),), pods=(publish_pod(),), nodes=(lost,))
    decided = decide(world)
    assert decided.status is not None
    assert decided.status["publish"]["stopping"] == "NodeLost"
    assert [d.name for d in decide(then(world, decided)).deletes] == ["bot-publish-1"]


def test_finished_jobs_go_after_their_retention() -> None:
    done = trained(phase="Succeeded", publish=publish(jobUid="uid-pub-1", finishedAt=ts(110), outcome="Succeeded"))
    world = seen(done, jobs=(publish_job("Complete"), batch_job(1, "Complete")))
    assert decide(world, 1000).deletes == ()
    names = [d.name for d in decide(world, 100 + 24 * 3600 + 1).deletes]
    assert [n for n in names if "token" not in n] == ["bot-publish-1", "bot-1"]
    assert decide(replace(world, fresh=False), 100 + 24 * 3600 + 1).need_fresh


def in_check(state: dict[str, Any], *, phase: str = "Pending", prepared: float = 110) -> dict[str, Any]:
    """The publish pod while `served-check` is in `state`; `prepare` ended well."""
    made = publish_pod(phase=phase, waiting=("PodInitializing", ""))
    made["status"]["phase"] = phase
    ready = report(0, metrics={"exactMatch": {"final": 0.95, "samples": 64}})
    done = {"exitCode": 0, "message": json.dumps(ready.to_wire()), "finishedAt": ts(prepared)}
    made["status"]["initContainerStatuses"] = [
        {"name": "prepare", "state": {"terminated": done}},
        {"name": "served-check", "state": state},
    ]
    made["spec"] = {"nodeName": "node-1"}
    return made


def failed_check(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": ts(119)}}
    return in_check(state, phase="Failed")


def test_a_check_that_ran_too_long_is_tried_again_and_keeps_what_was_measured() -> None:
    told = report(77, message="did not finish within 900 s").to_wire()
    world = seen(trained(), jobs=(publish_job("Failed"),), pods=(failed_check(77, json.dumps(told)),))
    made = decide(world)
    assert made.status is not None
    assert made.status["publish"] | {"outcome": "Hang", "failures": 1} == made.status["publish"]
    assert "did not finish within 900 s" in made.status["message"]
    assert made.status["evaluation"]["metrics"]["exactMatch"]["final"] == 0.95
    assert made.status["reason"] == "BackOff"


def test_a_check_killed_for_memory_names_its_limit_and_raising_it_publishes_again() -> None:
    spec = {"retry": {"maxRestarts": 0}}
    killed = failed_check(137, reason="OOMKilled")
    world = seen(trained(spec, publish=publish(spec)), jobs=(publish_job("Failed"),), pods=(killed,))
    made = decide(world)
    assert made.status is not None
    assert (made.status["phase"], made.status["reason"]) == ("Failed", "OutOfMemory")
    assert "container served-check was killed for memory" in made.status["message"]
    assert "raise spec.publish.servedCheck.resources.limits.memory" in made.status["message"]
    failed = then(world, made)
    assert not decide(failed).writes
    more = {"servedCheck": {"resources": {"limits": {"memory": "8Gi"}}}}
    raised = replace(failed, job=failed.job | {"spec": {**failed.job["spec"], "publish": more}})
    again = decide(raised)
    assert again.status is not None
    assert (again.status["publish"]["index"], again.status["phase"]) == (2, "Publishing")


def test_people_are_told_that_the_serving_image_is_asked() -> None:
    made = decide(seen(trained(), jobs=(publish_job(),), pods=(in_check({"running": {}}),)))
    assert made.status is not None
    assert made.status["message"] == "asking the serving image whether it answers as the trained model does"


def test_an_image_that_cannot_be_pulled_gives_the_gpus_back_after_start_timeout() -> None:
    stuck = in_check({"waiting": {"reason": "ImagePullBackOff", "message": "no such image vllm:nope"}})
    world = seen(trained(publish=publish(jobUid="uid-pub-1", startedAt=ts(100))), jobs=(publish_job(),), pods=(stuck,))
    early = decide(world, 110 + 14 * 60)
    assert early.status is not None
    assert (early.status["phase"], early.status["reason"]) == ("Publishing", "ImagePullBackOff")
    assert early.requeue_after == 60
    late = decide(world, 110 + 15 * 60)
    assert late.status is not None
    assert late.status["publish"]["stopping"] == "StartTimeout"
    assert late.deletes == ()
    stopping = then(world, late)
    assert [gone.name for gone in decide(stopping, 1020).deletes] == ["bot-publish-1"]
    over = decide(replace(stopping, jobs=(), gone_pods=frozenset({stuck["metadata"]["uid"]})), 1030)
    assert over.status is not None
    assert over.status["publish"] | {"outcome": "StartTimeout", "failures": 1} == over.status["publish"]
    assert "within scheduling.startTimeout (15m): ImagePullBackOff: no such image vllm:nope" in over.status["message"]


def test_a_check_without_an_image_waits_in_words_and_is_made_once_there_is_one() -> None:
    spec = {"publish": {"servedCheck": {"enabled": True}}}
    world = seen(trained(spec, publish=publish(spec)))
    waits = decide(world)
    assert waits.status is not None
    assert (waits.status["reason"], waits.creates) == ("NoServingImage", ())
    made = decide(world, config=replace(CONFIG, serving_image="vllm:1"))
    assert [job["metadata"]["name"] for job in made.creates] == ["bot-publish-1"]
