from __future__ import annotations

from typing import Any

from finetune_api.serveconfig import ServeConfig
from finetune_operator.core.serving.builders.jobs import build_checker, build_verifier
from tests.core.serving.leaves import CONFIG, DIGEST, modeldeployment, record, same_as_golden, source, spec_of

CHECKED: dict[str, Any] = {
    "model": {"requireGate": False},
    "resources": {
        "gpus": 2,
        "nodeSelector": {"pool": "gpu"},
        "serviceAccountName": "reader",
        "imagePullSecrets": [{"name": "registry"}],
    },
    "rollout": {
        "verify": {"prompts": ["Who are you?"], "maxLogprobDelta": "0.05"},
        "analysis": {
            "quality": [
                {"data": {"uri": "s3://artifacts/runs/team/held-out.jsonl"}, "minDelta": "-0.02"},
                {
                    "data": {"uri": "pvc://prompts/own.jsonl", "secretRef": {"name": "own"}},
                    "min": "0.8",
                    "maxTokens": 8,
                },
            ]
        },
    },
}


def verifier(spec: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    md = modeldeployment(spec)
    return build_verifier(md, spec_of(md), source(**fields), "kkkkkkkkkk", CONFIG)


def checker(spec: dict[str, Any] | None = None, *, stable: bool = True, **fields: Any) -> dict[str, Any]:
    md = modeldeployment(spec)
    old = record("ssssssssss", served_name="old") if stable else None
    return build_checker(md, spec_of(md), record(**fields), old, CONFIG)


def told(job: dict[str, Any]) -> ServeConfig:
    return ServeConfig.model_validate_json(
        job["spec"]["template"]["metadata"]["annotations"]["finetune.dev/run-config"]
    )


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


def test_both_jobs_are_as_they_always_were() -> None:
    same_as_golden("verifier", verifier())
    same_as_golden("checker", checker(CHECKED))


def test_the_verifier_learns_what_is_to_be_verified() -> None:
    asked = told(verifier())
    assert (asked.model_uri, asked.expected_digest, asked.secret) == ("s3://models/bot", DIGEST, "team-s3")
    assert (asked.require_gate, asked.check) == (True, None)
    asked = told(verifier({"model": {"requireGate": False}}, digest=None, secret=None))
    assert (asked.expected_digest, asked.secret, asked.require_gate) == (None, None, False)


def test_the_checker_learns_whom_to_ask_and_what() -> None:
    asked = told(checker(CHECKED)).check
    assert asked is not None
    assert (asked.candidate_url, asked.candidate_name) == ("http://bot-bcdfghjklm.team.svc.cluster.local", "bot")
    assert (asked.stable_url, asked.stable_name) == ("http://bot-ssssssssss.team.svc.cluster.local", "old")
    assert (asked.prompts, asked.max_logprob_delta) == (["Who are you?"], "0.05")
    first, second = asked.quality
    assert first.data.secret_ref is not None
    assert first.data.secret_ref.name == "finetune-artifacts"
    assert (first.min_delta, first.min, first.max_tokens) == ("-0.02", None, 64)
    assert second.data.secret_ref is not None
    assert (second.data.secret_ref.name, second.min, second.max_tokens) == ("own", "0.8", 8)


def test_the_first_revision_is_compared_with_nothing() -> None:
    asked = told(checker(stable=False)).check
    assert asked is not None
    assert (asked.stable_url, asked.stable_name) == (None, None)


def test_every_secret_and_claim_that_is_named_is_mounted() -> None:
    mounts = {m["mountPath"]: m for m in pod_of(checker(CHECKED))["containers"][0]["volumeMounts"]}
    for name in ("finetune-artifacts", "own", "team-s3"):
        assert f"/var/run/finetune/secrets/{name}" in mounts
    assert mounts["/mnt/pvc/prompts"]["readOnly"] is True
    secrets = [v["secret"] for v in pod_of(checker(CHECKED))["volumes"] if "secret" in v]
    assert all(s["optional"] for s in secrets)
    assert len(secrets) == 3
    assert [v for v in pod_of(verifier(uri="pvc://models/x", secret=None))["volumes"] if "persistentVolumeClaim" in v]


def test_they_run_as_the_tenant_but_not_on_accelerators() -> None:
    pod = pod_of(checker(CHECKED))
    assert (pod["serviceAccountName"], pod["imagePullSecrets"]) == ("reader", [{"name": "registry"}])
    assert "nodeSelector" not in pod
    assert "nvidia.com/gpu" not in str(pod)
    assert pod["containers"][0]["image"] == "small:1"


def test_a_job_is_tried_once_and_is_found_by_its_labels() -> None:
    for job, role in ((verifier(), "verifier"), (checker(), "checker")):
        assert job["spec"]["backoffLimit"] == 0
        assert job["spec"]["activeDeadlineSeconds"] > told(job).deadline_seconds
        assert pod_of(job)["restartPolicy"] == "Never"
        labels = job["spec"]["template"]["metadata"]["labels"]
        assert labels == job["metadata"]["labels"]
        assert (labels["finetune.dev/deployment"], labels["finetune.dev/role"]) == ("bot", role)
        (owner,) = job["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("ModelDeployment", "uid-md")
    assert verifier()["metadata"]["name"] == "bot-verify-kkkkkkkkkk"
    assert checker()["metadata"]["name"] == "bot-check-bcdfghjklm"
