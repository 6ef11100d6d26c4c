"""Where things are in a run directory. Writers and readers of storage use these names and no others.

<run>/fence/<attempt>                     put-if-absent; JSON `Fence`
<checkpoints>/step-<N>-a<attempt>/        content, then MANIFEST.json (put-if-absent)
<run>/attempts/<n>/exit-<index>.json      each pod's last words, with the log's tail
<run>/attempts/<n>/metrics.jsonl          one line per logged step (index 0)
<run>/attempts/<n>/tensorboard/
<run>/data-report.json, data-report.md    what became of the data, for programs and for people
<run>/objective/reference-<key>.safetensors   log-likelihoods under the base model (DPO where all weights train)
<run>/retention/fisher-<key>.safetensors  how much each weight matters to what is to be kept (EWC)
<run>/publish/metrics.json                the evaluation, kept so that a relaxed gate costs no second evaluation
<run>/publish/served.json                  what the serving image answered, kept for the same artefact
<run>/publish/gate.json
<output>/served-check.json                the trainer's answers to fixed prompts (`finetune_api.served`)
<output>/MANIFEST.json                    the published model's manifest, last
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune_api.finetunejob import FineTuneJobSpec

MANIFEST = "MANIFEST.json"
FENCE_DIR = "fence"
DATA_REPORT = "data-report.json"
DATA_PAGE = "data-report.md"
OBJECTIVE_DIR = "objective"
RETENTION_DIR = "retention"
METRICS = "publish/metrics.json"
SERVED = "publish/served.json"
GATE = "publish/gate.json"
_CHECKPOINT = re.compile(r"^step-([0-9]+)-a([0-9]+)$")


def fence_path(attempt: int) -> str:
    return f"{FENCE_DIR}/{attempt}"


def attempt_dir(attempt: int) -> str:
    return f"attempts/{attempt}"


def exit_path(attempt: int, index: int) -> str:
    return f"{attempt_dir(attempt)}/exit-{index}.json"


def checkpoint_name(step: int, attempt: int) -> str:
    return f"step-{step}-a{attempt}"


def parse_checkpoint_name(name: str) -> tuple[int, int] | None:
    """(step, attempt), or None when the name is not a checkpoint's."""
    match = _CHECKPOINT.match(name)
    return (int(match[1]), int(match[2])) if match else None


def checkpoints_uri(spec: FineTuneJobSpec, run_uri: str, run_key: str) -> str:
    """`checkpoint.uri` gets the run key below it, so that two runs never share a folder."""
    if spec.checkpoint.uri is None:
        return f"{run_uri}/checkpoints"
    return f"{spec.checkpoint.uri.rstrip('/')}/{run_key}"


def output_uri(spec: FineTuneJobSpec, run_uri: str) -> str:
    return spec.output.uri.rstrip("/") if spec.output.uri else f"{run_uri}/model"
