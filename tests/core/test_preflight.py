"""Preflight: one pod, its report becomes acceptance, a wait that goes on by itself, or a refusal in words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from finetune_api.reports import PublishedModel
from finetune_operator.core.preflight import retry_delay
from tests.core.build import CONFIG, condition_of, decide, ftj, preflight_pod, report, seen, then, ts


def test_a_new_job_gets_a_preflight_pod_and_says_so() -> None:
    made = decide(seen(ftj()))
    (pod,) = made.creates
    assert pod["metadata"]["name"] == "bot-preflight"
    assert pod["spec"]["containers"][0]["image"] == CONFIG.small_image
    assert made.status is not None
    assert made.status["phase"] == "Pending"
    assert condition_of(made, "Accepted")["status"] == "Unknown"


def test_missing_secrets_do_not_keep_the_preflight_pod_from_saying_so() -> None:
    (pod,) = decide(seen(ftj())).creates
    secrets = [v["secret"] for v in pod["spec"]["volumes"] if "secret" in v]
    assert secrets == [{"secretName": "finetune-artifacts", "defaultMode": 0o440, "optional": True}]


DISTILL = {
    "type": "Distill",
    "distill": {"teacher": {"uri": "pvc://teachers/large", "secretRef": {"name": "teacher-s3"}}},
}


def test_a_teachers_secret_and_claim_are_mounted_and_its_revision_is_pinned_for_every_attempt() -> None:
    job = ftj({"objective": DISTILL})
    (pod,) = decide(seen(job)).creates
    volumes = pod["spec"]["volumes"]
    assert "teacher-s3" in [v["secret"]["secretName"] for v in volumes if "secret" in v]
    assert {"name": "claim-0", "persistentVolumeClaim": {"claimName": "teachers"}} in volumes
    made = decide(seen(job, pods=(preflight_pod(report(teacher_revision="t1")),)))
    assert made.status is not None
    assert made.status["resolved"]["teacherRevision"] == "t1"
    made = decide(seen(ftj({"objective": DISTILL}, status=made.status)))
    template = made.creates[-1]["spec"]["template"]
    assert '"teacherRevision":"t1"' in json.dumps(template, separators=(",", ":")).replace("\\", "")
    volumes = template["spec"]["volumes"]
    assert "teacher-s3" in [v["secret"]["secretName"] for v in volumes if "secret" in v]


def test_commits_of_the_hub_are_pinned_for_every_attempt_and_the_publisher() -> None:
    job = ftj({"model": {"uri": "hf://acme/bot"}})
    pins = {"hf://acme/bot": "a" * 40}
    accepted = decide(seen(job, pods=(preflight_pod(report(pins=pins)),)))
    assert accepted.status is not None
    assert accepted.status["resolved"]["pins"] == pins
    made = decide(seen(ftj({"model": {"uri": "hf://acme/bot"}}, status=accepted.status)))
    assert made.creates, "the first attempt"
    assert '"pins":{"hf://acme/bot":"aaaa' in json.dumps(made.creates[-1], separators=(",", ":")).replace("\\", "")


def test_acceptance_and_the_first_attempt_are_one_write_and_nothing_else() -> None:
    made = decide(seen(ftj(), pods=(preflight_pod(report()),)))
    assert made.status is not None
    assert made.status["resolved"]["runKey"] == "0123456789abcdef"
    assert [a["index"] for a in made.status["attempts"]] == [1]
    assert made.status["gpus"] == 2
    assert made.creates == ()
    assert made.deletes == ()


def test_a_published_run_succeeds_without_training() -> None:
    published = PublishedModel(uri="s3://artifacts/m", digest="sha256:1", manifest="s3://m/MANIFEST.json", merged=True)
    made = decide(seen(ftj(), pods=(preflight_pod(report(published=published)),)))
    assert made.status is not None
    assert made.status["phase"] == "Succeeded"
    assert made.status["reason"] == "AlreadyPublished"
    assert made.status["attempts"] == []
    assert condition_of(made, "Complete")["status"] == "True"


def test_what_may_still_arrive_is_tried_again_and_named() -> None:
    waiting = report(69, "WaitingForSecret", "Secret team-a not found", field="spec.model.secretRef")
    world = seen(ftj(), pods=(preflight_pod(waiting),))
    made = decide(world, 6)
    assert condition_of(made, "Accepted") | {"lastTransitionTime": ""} == {
        "type": "Accepted",
        "status": "False",
        "reason": "WaitingForSecret",
        "message": "spec.model.secretRef: Secret team-a not found",
        "observedGeneration": 1,
        "lastTransitionTime": "",
    }
    assert made.requeue_after == 5.0
    world = then(world, made)
    assert decide(world, 7).deletes == ()
    (delete,) = decide(world, 11).deletes
    assert delete.name == "bot-preflight"
    assert delete.uid == "uid-pre"


def test_a_retry_that_runs_is_left_alone() -> None:
    status = {"preflight": {"tries": 1, "generation": 1, "podUid": "old", "exitCode": 69, "finishedAt": ts(5)}}
    made = decide(seen(ftj(status=status), pods=(preflight_pod(),)), 60)
    assert made.deletes == ()
    assert made.creates == ()


@pytest.mark.parametrize(("code", "reason"), [(64, "InvalidModel"), (66, "InvalidData")])
def test_what_is_wrong_is_final_until_the_spec_changes(code: int, reason: str) -> None:
    world = seen(ftj(), pods=(preflight_pod(report(code, reason, "train.jsonl line 17: no")),))
    made = decide(world, 6)
    assert made.status is not None
    assert made.status["phase"] == "Failed"
    assert made.status["message"] == "train.jsonl line 17: no"
    assert condition_of(made, "Stalled")["status"] == "True"
    later = decide(then(world, made), 4000)
    assert not later.creates
    assert not later.deletes

    edited = then(world, made)
    edited = seen({**edited.job, "metadata": {**edited.job["metadata"], "generation": 2}}, pods=edited.pods)
    again = decide(edited, 4001)
    assert [d.name for d in again.deletes] == ["bot-preflight"]
    assert again.status is not None
    assert again.status["phase"] == "Pending"
    assert condition_of(again, "Failed")["status"] == "False"


def test_a_pod_without_a_report_is_tried_again() -> None:
    pod = preflight_pod(report())
    pod["status"]["containerStatuses"][0]["state"]["terminated"] |= {"message": "Killed", "exitCode": 137}
    made = decide(seen(ftj(), pods=(pod,)), 6)
    assert condition_of(made, "Accepted")["reason"] == "PreflightFailed"
    assert "exit code 137" in condition_of(made, "Accepted")["message"]


def test_a_pod_that_cannot_start_says_why() -> None:
    pod = preflight_pod()
    pod["status"]["phase"] = "Pending"
    pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ImagePullBackOff", "message": "no such"}}
    made = decide(seen(ftj(), pods=(pod,)))
    assert "ImagePullBackOff: no such" in condition_of(made, "Accepted")["message"]


def test_without_any_store_the_spec_is_refused_in_words() -> None:
    from dataclasses import replace

    made = decide(seen(ftj()), config=replace(CONFIG, artifacts_uri=""))
    assert made.creates == ()
    assert "spec.checkpoint.uri" in condition_of(made, "Accepted")["message"]
    assert condition_of(made, "Accepted")["reason"] == "InvalidSpec"


def test_retry_delays_grow_from_5_to_60_seconds() -> None:
    assert [retry_delay(n) for n in range(1, 7)] == [5, 10, 20, 40, 60, 60]


def test_the_run_config_travels_with_the_pod_and_holds_no_secret() -> None:
    (pod,) = decide(seen(ftj())).creates
    text = pod["metadata"]["annotations"]["finetune.dev/run-config"]
    assert json.loads(text)["runsUri"] == "s3://artifacts/runs/team/bot"
    assert CONFIG.installation_key.decode() not in text


def test_a_served_check_without_an_image_is_said_before_anything_is_started() -> None:
    job = ftj({"publish": {"servedCheck": {"enabled": True}}})
    made = decide(seen(job))
    assert made.creates == ()
    assert condition_of(made, "Accepted")["reason"] == "NoServingImage"
    assert condition_of(made, "Accepted")["message"].startswith("spec.publish.servedCheck.image: not set")
    assert [o["kind"] for o in decide(seen(job), config=replace(CONFIG, serving_image="vllm:1")).creates] == ["Pod"]


def test_records_to_replay_bring_their_secret_and_volume_into_every_pod() -> None:
    data = {"uri": "pvc://kept/records.jsonl", "secretRef": {"name": "kept-s3"}}
    (pod,) = decide(seen(ftj({"retention": {"replay": {"data": data, "percent": 10}}}))).creates
    volumes = pod["spec"]["volumes"]
    assert "kept-s3" in [v["secret"]["secretName"] for v in volumes if "secret" in v]
    assert "kept" in [v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v]
