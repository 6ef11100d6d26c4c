"""A teacher's answers are written on this machine, and a job that names them needs no teacher."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.manifests import JOB, finetune, write
from tests.trainer import tiny

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]
TAUGHT = """\
  objective:
    type: Distill
    distill: {teacher: {uri: teacher}, loss: JSD}
"""
ALONE = """\
  objective:
    type: Distill
    distill: {topK: {uri: answers}, loss: JSD}
"""


def test_answers_stand_for_the_teacher(tmp_path: Path) -> None:
    tiny.build(tmp_path, rows=40)
    tiny.write_model(tmp_path / "teacher", layers=1)
    write(tmp_path, JOB + TAUGHT)
    command = ("teach", "-f", "job.yaml", "--to", "answers", "--top-k", "16")
    done = finetune(*command, "--output", "json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["topK"] == 16
    assert [Path(name).name for name in said["files"]] == ["top-k-00000.safetensors"]
    write(tmp_path, JOB + ALONE)
    done = finetune("plan", "-f", "job.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    again = finetune(*command, folder=tmp_path)
    assert again.returncode == 64
    assert "--to answers: is not empty; name a new folder" in again.stdout + again.stderr
