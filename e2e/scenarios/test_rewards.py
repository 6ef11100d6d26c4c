"""A reward model and a model that learns from it, applied together: the second waits for the first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.story.stage import SECRET, Stage, attempts, condition, step
from e2e.story.training import evict

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.timeout(600)]
PAIRS = "demo/pairs.jsonl"


def pairs(lines: list[str]) -> bytes:
    """The record's own answer is preferred to that of the record before it."""
    records = [json.loads(text) for text in lines]
    found = []
    for record, other in zip(records, [records[-1], *records], strict=False):
        *asked, good = record["messages"]
        if good != other["messages"][-1]:
            found.append({"prompt": asked, "chosen": [good], "rejected": [other["messages"][-1]]})
    return "".join(json.dumps(pair) + "\n" for pair in found).encode()


def stored(uri: str) -> dict[str, Any]:
    return {"uri": uri, "secretRef": {"name": SECRET}}


def test_a_job_waits_for_the_reward_model_that_it_learns_from(stage: Stage) -> None:
    bucket = f"s3://{stage.cluster.s3.bucket}"
    stage.store.put_bytes(PAIRS, pairs((stage.generated() / "train.jsonl").read_text().splitlines()[:400]))
    common: dict[str, Any] = {"resources": {"nodes": 1}, "evaluation": {"gate": None, "samples": {"count": 16}}}
    taste = stage.example("01-finetune.yaml", name="taste", training={"maxSteps": 60}, **common)
    taste["spec"] |= {"objective": {"type": "Reward"}, "output": stored(f"{bucket}/demo/taste")}
    taste["spec"]["data"] |= {"train": [stored(f"{bucket}/{PAIRS}")], "validation": {"percent": 10}}
    liked = stage.example(
        "01-finetune.yaml",
        name="liked",
        training={"maxSteps": 30, "globalBatchSize": 4, "microBatchSize": 2},
        data={"onOverflow": "Drop"},
        **common,
    )
    reward = {"type": "Model", "model": stored(f"{bucket}/demo/taste")}
    policy = {"rewards": [reward], "generations": 4, "maxNewTokens": 8, "beta": "0.05"}
    liked["spec"]["objective"] = {"type": "GRPO", "grpo": policy}
    stage.apply(liked)
    stage.apply(taste)

    waiting = stage.wait("liked", "it waits", lambda j: j["status"].get("reason") == "WaitingForModel")
    assert "spec.objective.grpo.rewards[0].model.uri" in condition(waiting, "Accepted")["message"]
    stage.wait("taste", "it is published", lambda j: j["status"].get("phase") == "Succeeded")
    stage.wait("liked", "step 10", lambda j: step(j) >= 10)
    evict(stage, stage.trainers("liked", 1)[0])
    done = stage.wait("liked", "it is published", lambda j: j["status"].get("phase") == "Succeeded")
    assert [attempt["lostSteps"] for attempt in attempts(done)[:-1]] == [0]
    uri = done["status"]["output"]["uri"].removeprefix(f"{bucket}/")
    lineage = json.loads(stage.store.get_bytes(f"{uri}/MANIFEST.json"))["lineage"]
    assert lineage["teacherUri"] == f"{bucket}/demo/taste"
    assert lineage["teacherRevision"] == done["status"]["resolved"]["teacherRevision"]
    measured = done["status"]["evaluation"]["metrics"]["reward"]
    assert measured["final"] > measured["base"]
