"""What the story leaves out, on the real cluster: suspend and resume, compiled layers, and pods that never start."""

from __future__ import annotations

import pytest

from e2e.story.stage import Stage, attempts, step
from e2e.story.training import evict
from finetune_api.pod import SCRATCH_DIR

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.timeout(600)]


def test_a_suspended_job_gives_everything_back_and_resumes_where_it_was(stage: Stage) -> None:
    stage.apply(stage.example("01-finetune.yaml", name="paused", resources={"nodes": 1}))
    stage.wait("paused", "step 20", lambda j: step(j) >= 20)
    stage.kubectl("-n", stage.namespace, "patch", "ftj", "paused", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    job = stage.wait("paused", "it is suspended", lambda j: attempts(j)[-1].get("outcome") == "Suspended")
    saved = job["status"]["checkpoint"]["step"]
    assert saved >= 20
    stage.until("no trainer pod is left", lambda: not stage.trainers("paused", 1), timeout=90)
    assert stage.get("paused")["status"]["phase"] == "Suspended"
    stage.kubectl("-n", stage.namespace, "patch", "ftj", "paused", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    job = stage.wait("paused", "it resumed", lambda j: len(attempts(j)) == 2 and attempts(j)[-1].get("resumedAt"))
    assert attempts(job)[-1]["startStep"] == saved
    assert attempts(job)[0]["lostSteps"] == 0
    assert job["status"]["restarts"] == 0


def test_a_sharded_job_is_preempted_and_resumed_by_another_strategy(stage: Stage) -> None:
    """Two nodes hold half of everything each; what they saved together, two that hold it all go on with."""
    sharded = stage.example(
        "02-full-finetune.yaml",
        name="sharded",
        parallelism={"strategy": "FSDP"},
        resources={"nodes": 2},
        training={"maxSteps": 120},
        evaluation={"gate": None},
    )
    stage.apply(sharded)
    stage.wait("sharded", "step 20", lambda j: step(j) >= 20)
    patch = '{"spec":{"parallelism":{"strategy":"DDP"}}}'
    stage.kubectl("-n", stage.namespace, "patch", "ftj", "sharded", "--type=merge", "-p", patch)
    evict(stage, stage.trainers("sharded", 1)[1])
    job = stage.wait("sharded", "it resumed", lambda j: len(attempts(j)) == 2 and attempts(j)[-1].get("resumedAt"))
    saved = job["status"]["checkpoint"]
    names = [entry.path for entry in stage.store.list(saved["uri"].removeprefix("s3://artifacts/"))]
    assert sum("trainable-0000" in name for name in names) == 2, names
    assert attempts(job)[-1]["startStep"] == saved["step"] >= 20
    assert attempts(job)[0]["lostSteps"] == 0
    stage.until("it is published", lambda: stage.get("sharded")["status"].get("phase") == "Succeeded", timeout=240)


def test_a_compiled_job_is_preempted_and_compiles_again(stage: Stage) -> None:
    """By the image's own compiler, in a pod that may write to its scratch volumes only."""
    training = {"maxSteps": 600, "compile": True}
    changes = {"resources": {"nodes": 1}, "training": training, "evaluation": {"gate": None}}
    stage.apply(stage.example("02-full-finetune.yaml", name="compiled", **changes))
    stage.wait("compiled", "step 20", lambda j: step(j) >= 20)
    [pod] = stage.trainers("compiled", 1)
    find = ("find", SCRATCH_DIR, "-name", "*.so")
    found = stage.kubectl("-n", stage.namespace, "exec", pod["metadata"]["name"], "--", *find)
    assert found.strip(), "nothing was compiled"
    evict(stage, pod)
    job = stage.wait("compiled", "it resumed", lambda j: len(attempts(j)) == 2 and attempts(j)[-1].get("resumedAt"))
    assert attempts(job)[0]["lostSteps"] == 0
    stage.until("it is published", lambda: stage.get("compiled")["status"].get("phase") == "Succeeded", timeout=240)


def test_pods_that_never_start_are_given_up_in_words(stage: Stage) -> None:
    stuck = stage.example(
        "01-finetune.yaml",
        name="stuck",
        resources={"nodes": 1, "nodeSelector": {"example.com/no-such": "node"}},
        scheduling={"startTimeout": "5s"},
        retry={"maxRestarts": 0},
    )
    stage.apply(stuck)
    stage.until("it is given up", lambda: stage.get("stuck")["status"].get("phase") == "Failed", timeout=90)
    status = stage.get("stuck")["status"]
    assert status["reason"] == "MaxRestartsExceeded"
    assert "scheduling.startTimeout" in status["message"]
    assert "Unschedulable" in status["message"]
