"""A custom trainer's job on this machine: validated, and refused in words where an image would have to be run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.manifests import finetune

JOB = """\
apiVersion: finetune.dev/v1alpha1
kind: FineTuneJob
metadata: {name: own}
spec:
  model: {uri: "file:///m"}
  data: {train: [{uri: DATA}]}
  trainer: {type: Custom, image: "own:1", custom: {command: [python, /opt/train.py]}}
"""


@pytest.mark.parametrize("command", ["run", "plan"])
def test_no_image_is_started_here(tmp_path: Path, command: str) -> None:
    (tmp_path / "job.yaml").write_text(JOB.replace("DATA", '"file:///d"'))
    done = finetune(command, "-f", "job.yaml", folder=tmp_path)
    assert done.returncode == 64
    assert "starts no images" in " ".join((done.stdout + done.stderr).split())


def test_its_data_is_the_scripts_to_judge(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("whatever the script reads\n")
    (tmp_path / "job.yaml").write_text(JOB.replace("DATA", f'"file://{tmp_path}/train.jsonl"'))
    done = finetune("validate", "-f", "job.yaml", "--data", "--output", "json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["valid"] is True
