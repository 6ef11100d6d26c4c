"""A script of the user's own on the real cluster: the example around TRL, in the trainer image for its TRL, with its
launcher replaced by the one that the init container writes."""

from __future__ import annotations

import json

import pytest

from e2e.images.product import TRAINER
from e2e.story.stage import Stage, attempts, step
from e2e.story.training import evict

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.timeout(900)]


def trainer(stage: Stage, *args: str) -> dict[str, object]:
    """The example's, with the image that the nodes have."""
    found: dict[str, object] = stage.example("custom-trl.yaml")["spec"]["trainer"]
    custom = dict(found["custom"])  # type: ignore[call-overload]
    script = custom["args"][0]
    return found | {"image": stage.cluster.images[TRAINER.key], "custom": custom | {"args": [script, *args]}}


def test_a_trl_script_is_preempted_resumed_and_published(stage: Stage) -> None:
    job = stage.example("custom-trl.yaml", name="own", trainer=trainer(stage, "--steps=120", "--save-steps=1000"))
    stage.apply(job)
    stage.wait("own", "step 10", lambda j: step(j) >= 10)
    pods = stage.trainers("own", 1)
    assert len(pods) == 2
    for pod in pods:
        (main,) = pod["spec"]["containers"]
        assert not [m["name"] for m in main["volumeMounts"] if m["name"].startswith("secret-")]
    evict(stage, pods[1])
    found = stage.wait("own", "it resumed", lambda j: len(attempts(j)) == 2 and attempts(j)[-1].get("resumedAt"))
    first, second = attempts(found)
    assert (first["outcome"], first["exitCode"], first["lostSteps"]) == ("Preempted", 85, 0), first
    assert second["startStep"] == first["endStep"] >= 10
    stage.until("it is published", lambda: stage.get("own")["status"].get("phase") == "Succeeded", timeout=300)
    status = stage.get("own")["status"]
    manifest = json.loads(stage.store.get_bytes(status["output"]["manifest"].removeprefix("s3://artifacts/")))
    assert manifest["kind"] == "Adapter"
    assert manifest["lineage"]["checkpointStep"] == 120
    assert not [f["path"] for f in manifest["files"] if f["path"].endswith(".bin")]


def test_a_script_that_fails_says_why_in_the_status(stage: Stage) -> None:
    custom = {"command": ["python", "-c"], "args": ["raise SystemExit(66) from KeyError('text')"]}
    job = stage.example("custom-trl.yaml", name="broken", trainer=trainer(stage) | {"custom": custom})
    stage.apply(job)
    stage.until("it has failed", lambda: stage.get("broken")["status"].get("phase") == "Failed", timeout=240)
    status = stage.get("broken")["status"]
    assert status["reason"] == "DataInvalid"
    assert "rank" in status["message"]
