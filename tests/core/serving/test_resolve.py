from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from finetune_api.deployment_status import ModelSource
from finetune_api.running import SecretRef
from finetune_operator.core.serving.resolve import Waiting, resolve, secret_for
from tests.core.build import merge, ts
from tests.core.serving.leaves import CONFIG, DIGEST, modeldeployment, spec_of

OUTPUT = {"uri": "s3://artifacts/runs/team/bot/k/model", "digest": DIGEST, "manifest": "m", "merged": True}


def job(
    name: str = "tune", phase: str | None = "Succeeded", done: float = 100, spec: Any = None, **status: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"phase": phase} if phase else {}
    if phase == "Succeeded":
        found |= {
            "output": OUTPUT,
            "conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": ts(done)}],
        }
    return {
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"uid-{name}",
            "labels": {"app": "bot"},
            "creationTimestamp": ts(0),
        },
        "spec": merge({"method": {"type": "LoRA"}}, spec or {}),
        "status": found | status,
    }


def wants(
    model: dict[str, Any], *jobs: dict[str, Any], status: dict[str, Any] | None = None, config: Any = CONFIG
) -> Any:
    md = modeldeployment()
    md["spec"]["model"] = model
    md["status"] = status or {}
    return resolve(spec_of(md), md, jobs, config)


REF = {"fineTuneJobRef": {"name": "tune"}}
SELECTOR = {"fineTuneJobSelector": {"matchLabels": {"app": "bot"}}}


def waits(answer: Any) -> tuple[str, str]:
    assert isinstance(answer, Waiting)
    return answer.reason, answer.message


def test_a_uri_is_served_with_the_secret_it_names() -> None:
    assert wants({"uri": "s3://models/x", "secretRef": {"name": "s"}}) == ModelSource(uri="s3://models/x", secret="s")
    assert wants({"uri": "s3://models/x"}) == ModelSource(uri="s3://models/x")


@pytest.mark.parametrize(
    ("uri", "secret"),
    [
        ("s3://artifacts/runs/team/bot/k/model", "finetune-artifacts"),
        ("s3://artifacts/runs/team", "finetune-artifacts"),
        ("s3://artifacts/runs/team-b/bot", None),
        ("s3://artifacts/runs/other/bot", None),
        ("s3://elsewhere/team/bot", None),
    ],
)
def test_the_installations_secret_reads_the_namespaces_own_place_only(uri: str, secret: str | None) -> None:
    assert wants({"uri": uri}).secret == secret
    assert secret_for(uri, None, "team", replace(CONFIG, artifacts_uri="s3://artifacts/runs/")) == secret
    assert secret_for(uri, SecretRef(name="own"), "team", CONFIG) == "own"
    assert secret_for(uri, None, "team", replace(CONFIG, artifacts_secret="")) is None
    assert secret_for(uri, None, "team", replace(CONFIG, artifacts_uri="")) is None


def test_a_path_of_one_machine_is_refused() -> None:
    reason, message = waits(wants({"uri": "file:///data/model"}))
    assert reason == "LocalUri"
    assert "s3:// or pvc://" in message


def test_a_jobs_output_is_served_with_its_digest() -> None:
    assert wants(REF, job("other"), job()) == ModelSource(
        uri=OUTPUT["uri"], digest=DIGEST, secret="finetune-artifacts", job="tune"
    )


@pytest.mark.parametrize(
    ("spec", "config", "secret"),
    [
        ({"output": {"secretRef": {"name": "out"}}}, CONFIG, "out"),
        ({"output": {"uri": "s3://x/y"}}, CONFIG, None),
        ({"checkpoint": {"uri": "s3://c/d", "secretRef": {"name": "ck"}}}, CONFIG, "finetune-artifacts"),
        ({"checkpoint": {"uri": "s3://c/d", "secretRef": {"name": "ck"}}}, replace(CONFIG, artifacts_uri=""), "ck"),
        ({}, replace(CONFIG, artifacts_secret=""), None),
    ],
)
def test_a_jobs_output_is_read_with_what_it_was_written_with(spec: Any, config: Any, secret: str | None) -> None:
    assert wants(REF, job(spec=spec), config=config).secret == secret


@pytest.mark.parametrize(
    ("found", "reason", "message"),
    [
        ([], "WaitingForFineTuneJob", "waiting for FineTuneJob tune: there is none in namespace team"),
        ([job(phase=None)], "WaitingForFineTuneJob", "waiting for FineTuneJob tune: Pending"),
        (
            [job(phase="Running", progress={"summary": "420/1000 42%"}, reason="Running", message="x")],
            "WaitingForFineTuneJob",
            "waiting for FineTuneJob tune: Running, 420/1000 42%",
        ),
        (
            [job(phase="Running", reason="Running", message="x")],
            "WaitingForFineTuneJob",
            "waiting for FineTuneJob tune: Running",
        ),
        (
            [job(phase="Pending", reason="WaitingForSecret", message="create it")],
            "WaitingForFineTuneJob",
            "waiting for FineTuneJob tune: Pending (WaitingForSecret): create it",
        ),
        (
            [job(phase="Failed", reason="GateFailed", message="perplexity 9 > 5")],
            "FineTuneJobFailed",
            "FineTuneJob tune Failed (GateFailed): perplexity 9 > 5; nothing new is served until it publishes",
        ),
        (
            [job(output=None)],
            "WaitingForFineTuneJob",
            "FineTuneJob tune Succeeded, but its status names no output yet",
        ),
    ],
)
def test_what_a_reference_waits_for_is_told(found: list[Any], reason: str, message: str) -> None:
    assert waits(wants(REF, *found)) == (reason, message)


def test_an_adapter_is_not_served_alone_but_a_full_model_is() -> None:
    unmerged = {"output": OUTPUT | {"merged": False}}
    reason, message = waits(wants(REF, job(**unmerged)))
    assert reason == "AdapterNotServable"
    assert "output.merge: true" in message
    assert wants(REF, job(spec={"method": {"type": "FullFineTune"}}, **unmerged)).job == "tune"


def test_a_model_that_scores_is_not_served() -> None:
    reason, message = waits(wants(REF, job(spec={"method": {"type": "LoRA"}, "objective": {"type": "Reward"}})))
    assert reason == "RewardNotServable"
    assert "scores texts and writes none" in message


def test_a_classifier_is_not_served() -> None:
    reason, message = waits(wants(REF, job(spec={"method": {"type": "LoRA"}, "objective": {"type": "Classification"}})))
    assert reason == "ClassifierNotServable"
    assert "sorts texts and writes none" in message


def test_the_newest_success_is_served() -> None:
    jobs = [
        job("a", done=300),
        job("b", done=200),
        job("c", done=300),
        job("d", phase="Running"),
        job("e", done=900) | {"metadata": {"name": "e", "labels": {"app": "other"}}},
    ]
    assert wants(SELECTOR, *jobs).job == "c"
    assert wants(SELECTOR, *reversed(jobs)).job == "c"
    assert wants(SELECTOR, *jobs[:2]).job == "a"


def test_what_a_selector_waits_for_is_told() -> None:
    assert waits(wants(SELECTOR)) == (
        "WaitingForFineTuneJob",
        "waiting for a FineTuneJob that matches app=bot to succeed: there is none in namespace team",
    )
    jobs = [job(n, phase="Failed", reason="GateFailed", message="worse") for n in ("b", "c", "d")]
    _, message = waits(wants(SELECTOR, job("a", phase="Running", progress={"summary": "1/2 50%"}), *jobs))
    assert message == (
        "waiting for a FineTuneJob that matches app=bot to succeed: a: Running, 1/2 50%; "
        "b: Failed (GateFailed): worse; c: Failed (GateFailed): worse; and 1 more"
    )


def served(name: str = "gone", started: float | None = 500) -> dict[str, Any]:
    history = (
        []
        if started is None
        else [
            {
                "revision": "r",
                "outcome": "Promoted",
                "reason": "Promoted",
                "model": "s3://m/r",
                "startedAt": ts(started),
                "finishedAt": ts(started + 9),
            }
        ]
    )
    return {
        "stable": {
            "revision": "r",
            "model": "s3://artifacts/runs/team/r",
            "digest": DIGEST,
            "job": name,
            "image": "vllm:1",
        },
        "history": history,
    }


KEPT = ModelSource(uri="s3://artifacts/runs/team/r", digest=DIGEST, secret="finetune-artifacts", job="gone")


def test_a_job_that_is_cleaned_away_stays_served() -> None:
    assert wants({"fineTuneJobRef": {"name": "gone"}}, status=served()) == KEPT
    assert waits(wants(REF, status=served()))[0] == "WaitingForFineTuneJob"
    assert wants(SELECTOR, status=served()) == KEPT


def test_a_job_that_is_cleaned_away_does_not_bring_back_an_older_one() -> None:
    assert wants(SELECTOR, job("older", done=499), status=served()) == KEPT
    assert wants(SELECTOR, job("older", done=499), job("newer", done=501), status=served()).job == "newer"
    assert wants(SELECTOR, job("older", done=499), status=served(started=None)).job == "older"
    assert wants(SELECTOR, job("gone", done=499), job("b", done=400), status=served()).job == "gone"


def test_a_job_that_is_cleaned_away_while_it_is_let_in_stays_wanted() -> None:
    rolling = {
        "key": "k", "model": {"uri": "s3://m/new", "digest": DIGEST, "secret": "s", "job": "gone"}, "trial": "t",
        "stage": "Stepping", "startedAt": ts(600), "stageSince": ts(600),
    }  # fmt: skip
    status = served("older") | {"rollout": rolling}
    expected = ModelSource(uri="s3://m/new", digest=DIGEST, secret="s", job="gone")
    assert wants(SELECTOR, job("older", done=499), status=status) == expected
    assert wants({"fineTuneJobRef": {"name": "gone"}}, status=status) == expected
