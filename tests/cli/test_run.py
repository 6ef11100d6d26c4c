"""A tiny model, from its manifest to the published artefact, and a stop on the way, with real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import CheckpointManifest, ModelManifest
from tests.artifacts.fake_hub import FakeHub
from tests.cli.manifests import JOB, environment, finetune, write
from tests.trainer import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE = 300.0


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    tiny.build(folder, rows=200)
    write(folder)
    return folder


def checkpoint(directory: str, step: int) -> CheckpointManifest:
    (path,) = Path(directory).glob(f"checkpoints/step-{step}-a*/MANIFEST.json")
    return CheckpointManifest.model_validate_json(path.read_bytes())


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["exitCode"] == done.returncode
    return found


@pytest.mark.nightly
def test_stopped_and_gone_on_with_it_is_the_same_run(bed: Path) -> None:
    """And what it publishes is found again."""
    whole = result(finetune("run", "-f", "job.yaml", "--dir", "whole", "--output", "json", "--no-publish", folder=bed))
    assert whole["exitCode"] == 0, whole
    assert whole["step"] == 20

    command = [sys.executable, "-m", "finetune_cli", "run", "-f", "job.yaml", "--dir", "parts", "--output", "json"]
    process = subprocess.Popen(
        command, cwd=bed, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        metrics = bed / "parts" / "team-a" / "router" / ".local" / f"scratch-{whole['runKey']}" / "attempt"
        deadline = time.monotonic() + PATIENCE
        while len(lines(metrics / "metrics.jsonl")) < 3:
            assert time.monotonic() < deadline, "no step was taken"
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    stopped = json.loads(out)
    assert process.returncode == stopped["exitCode"] == ExitCode.STOPPED, err
    assert 3 <= stopped["step"] < 20
    assert "the same command goes on from there: finetune run -f job.yaml --dir parts" in stopped["message"]

    again = finetune("run", "-f", "job.yaml", "--dir", "parts", "--output", "json", folder=bed)
    resumed = result(again)
    assert resumed["exitCode"] == 0, again.stderr
    assert resumed["runKey"] == whole["runKey"]
    ends = [checkpoint(run["runDirectory"], 20) for run in (whole, resumed)]
    assert ends[0].trainable_digest == ends[1].trainable_digest
    assert resumed["gatePassed"] is True
    assert (Path(resumed["runDirectory"]) / "model" / "MANIFEST.json").is_file()
    assert "vLLM is not installed here" in again.stderr
    assert "loss" in again.stderr

    third = result(finetune("run", "-f", "job.yaml", "--dir", "parts", "--output", "json", folder=bed))
    assert (third["exitCode"], third["reason"]) == (0, "AlreadyPublished")


def lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


@pytest.mark.nightly
def test_a_model_and_data_of_the_hub_are_trained_and_published(bed: Path) -> None:
    """The processes run offline, as in a pod, but for what the manifest names."""
    text = JOB.replace("{uri: model}", "{uri: hf://acme/bot}")
    text = text.replace("{uri: data/train.jsonl}", "{uri: hf://datasets/acme/rows/data}")
    write(
        bed,
        text.replace("maxSteps: 20", "maxSteps: 3").replace("    gate:", "    onGateFailure: Warn\n    gate:"),
        "hub.yaml",
    )
    with FakeHub() as hub:
        commit = hub.repo("acme/bot", {p.name: p.read_bytes() for p in (bed / "model").iterdir()})
        rows = {"README.md": b"#", "data/train.jsonl": (bed / "data" / "train.jsonl").read_bytes()}
        hub.repo("datasets/acme/rows", rows)
        there = {**environment(), "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "1", "HF_TOKEN_PATH": "/nowhere"}
        command = [sys.executable, "-m", "finetune_cli", "run", "-f", "hub.yaml", "--dir", "hub", "--output", "json"]
        done = subprocess.run(command, cwd=bed, env=there, text=True, capture_output=True, check=False)
    found = result(done)
    assert found["exitCode"] == 0, done.stderr
    manifest = ModelManifest.model_validate_json((Path(found["runDirectory"]) / "model" / "MANIFEST.json").read_bytes())
    assert manifest.kind == "Merged"
    assert manifest.lineage.model_uri == f"hf://acme/bot@{commit}"


def test_plan(bed: Path) -> None:
    found = result(
        finetune("plan", "-f", "job.yaml", "--set", "spec.training.maxSteps=5", "--output", "json", folder=bed)
    )
    assert (found["totalSteps"], found["globalBatchSize"]) == (5, 8)
    assert found["estimate"]["trainableParameters"] > 0
