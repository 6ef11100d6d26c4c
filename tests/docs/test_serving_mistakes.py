"""What the header of a serving mistake promises is what the operator, the verifier and the route's policy say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.core.names import Reason
from finetune_operator.core.serving.plan import plan_deployment
from finetune_operator.core.serving.types import DeploymentObserved
from finetune_operator.core.types import Config
from finetune_trainer.serve import reasons
from tests.docs.manifests import BAD, EXAMPLES, Mistake, documents, jobs, mistake

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
CONFIG = Config(
    namespace="finetune-system",
    trainer_image="trainer",
    small_image="small",
    artifacts_uri="s3://artifacts/runs",
    artifacts_secret="finetune-artifacts",
    installation_key=b"k" * 32,
    serving_image="vllm",
    gateway="finetune-system/finetune",
    gateway_domain="models.example.com",
)
SERVING = [p for p in BAD if p.parent.name == "serving"]
BY_OPERATOR = [p for p in SERVING if mistake(p).answered_by == "operator"]


def deployment(path: Path) -> dict[str, Any]:
    """As the API server would hand it over."""
    (found,) = [d for d in documents(path) if d["kind"] == "ModelDeployment"]
    meta = {"uid": "u", "generation": 1, "resourceVersion": "1", "creationTimestamp": "2026-01-01T11:00:00Z"}
    return found | {"metadata": found["metadata"] | meta}


def failed_job() -> dict[str, Any]:
    (job,) = jobs(EXAMPLES / "03-gate-fails.yaml")
    status = {"phase": "Failed", "reason": "GateFailed", "message": "exactMatch 0.1 < min 0.9"}
    return job | {"metadata": job["metadata"] | {"uid": "j"}, "status": status}


def accepted(path: Path) -> dict[str, Any]:
    named = deployment(path)["spec"]["model"].get("fineTuneJobRef", {}).get("name")
    known = [failed_job()] if named == "gate-fails" else []
    observed = DeploymentObserved(deployment(path), fine_tune_jobs=tuple(known), fresh=True)
    plan = plan_deployment(observed, NOW, CONFIG)
    assert plan.status is not None
    assert not plan.creates
    return next(c for c in plan.status["conditions"] if c["type"] == "Accepted")


def test_there_are_some_of_each() -> None:
    assert len(BY_OPERATOR) >= 4
    assert {mistake(p).answered_by for p in SERVING} == {"api-server", "operator", "verifier", "gateway"}


@pytest.mark.parametrize("path", BY_OPERATOR, ids=lambda p: p.stem)
def test_the_operator_answers_in_these_words(path: Path) -> None:
    condition = accepted(path)
    assert condition["status"] == "False"
    assert mistake(path).expect in f"{condition['reason']}: {condition['message']}"


@pytest.mark.parametrize("path", [p for p in SERVING if p not in BY_OPERATOR], ids=lambda p: p.stem)
def test_other_answers_are_reasons_that_there_are(path: Path) -> None:
    found: Mistake = mistake(path)
    known = {"verifier": {str(r) for r in reasons.Reason}, "gateway": {Reason.ROUTE_NOT_ACCEPTED}}
    if found.answered_by in known:
        assert found.expect in known[found.answered_by]
