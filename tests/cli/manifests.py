"""Manifests for the tests of the command line, and a way to run it as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
JOB = """\
apiVersion: finetune.dev/v1alpha1
kind: FineTuneJob
metadata: {name: router, namespace: team-a}
spec:
  model: {uri: model}
  data:
    train: [{uri: data/train.jsonl}]
    maxLength: 64
    packing: false
  method: {type: LoRA, lora: {rank: 8, alpha: 16}}
  training:
    maxSteps: 20
    globalBatchSize: 8
    learningRate: "5e-3"
    precision: FP32
  resources: {gpusPerNode: 0}
  evaluation:
    samples: {count: 0}
    gate: [{metric: perplexity, relativeTo: Base}]
"""


def write(folder: Path, text: str = JOB, name: str = "job.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {"PYTHONPATH": os.pathsep.join([str(REPO / "cli"), *(p for p in sys.path if p)]), "COLUMNS": "200"}


def finetune(*arguments: str, folder: Path = REPO, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "finetune_cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), text=True, capture_output=True, input=stdin)
