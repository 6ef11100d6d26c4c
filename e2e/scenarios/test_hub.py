"""A job whose model and data are repositories of a Hub: pods run offline and reach it by what the Secret says alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from e2e.story.stage import Stage, attempts, step
from e2e.story.training import evict
from tests.artifacts.fake_hub import FakeHub

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.timeout(600)]
MODEL, ROWS = "acme/bot", "datasets/acme/rows"
STEPS = 200


@pytest.fixture
def hub(stage: Stage) -> Iterator[FakeHub]:
    """Where the cluster's S3 server listens, pods reach this machine; what is private there needs the token."""
    made = FakeHub(address=urlsplit(stage.cluster.s3.endpoint).hostname or "")
    try:
        with made:
            yield made
    except OSError as error:
        pytest.skip(f"pods of this cluster cannot reach a server of this process: {error}")


def test_attempts_after_a_preemption_read_the_commit_that_preflight_found(stage: Stage, hub: FakeHub) -> None:
    folder = stage.generated()
    found = hub.repo(MODEL, {p.name: p.read_bytes() for p in (folder / "base").iterdir()})
    rows = (folder / "train.jsonl").read_bytes()
    data = hub.repo(ROWS, {"README.md": b"#", "data/train-0.jsonl": rows, "data/test-0.jsonl": b"never read"})
    hub.repos[MODEL].private = hub.repos[ROWS].private = True
    keys = {"HF_TOKEN": hub.token, "HF_ENDPOINT": hub.endpoint}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub", "namespace": stage.namespace}}
    stage.apply({**secret, "stringData": keys})

    job = stage.example(
        "01-finetune.yaml",
        name="of-the-hub",
        model={"uri": f"hf://{MODEL}", "secretRef": {"name": "hub"}},
        resources={"nodes": 1},
        training={"maxSteps": STEPS},
        evaluation={"gate": None},
    )
    job["spec"]["data"]["train"] = [{"uri": f"hf://{ROWS}/data/train-*.jsonl", "secretRef": {"name": "hub"}}]
    stage.apply(job)
    begun = stage.wait("of-the-hub", "step 20", lambda j: step(j) >= 20)
    pins = {f"hf://{MODEL}": found, f"hf://{ROWS}": data}
    assert begun["status"]["resolved"]["pins"] == pins

    hub.repos[MODEL].push({"README.md": b"another model by now"})
    hub.repos[ROWS].push({"README.md": b"no data any more"})
    evict(stage, stage.trainers("of-the-hub", 1)[0])
    done = stage.wait("of-the-hub", "it is published", lambda j: j["status"].get("phase") == "Succeeded")
    assert len(attempts(done)) == 2
    assert attempts(done)[0]["lostSteps"] == 0
    uri = done["status"]["output"]["uri"].removeprefix(f"s3://{stage.cluster.s3.bucket}/")
    manifest = json.loads(stage.store.get_bytes(f"{uri}/MANIFEST.json"))
    assert manifest["lineage"]["modelUri"] == f"hf://{MODEL}@{found}"
    assert hub.token not in stage.kubectl("-n", stage.namespace, "get", "ftj,pods,jobs,events", "-o", "yaml")
