"""The example manifests, and what the header of a bad one promises."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from finetune_api.base import ApiModel
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.modeldeployment import ModelDeploymentSpec

REPO = Path(__file__).resolve().parents[2]
EXAMPLES = REPO / "examples"
GOOD = sorted(EXAMPLES.glob("*.yaml"))
BAD = sorted((EXAMPLES / "bad").rglob("*.yaml"))
ANSWERS = ("api-server", "api-server, once preflight has passed", "preflight", "operator", "verifier", "gateway")
SPECS: dict[str, type[ApiModel]] = {"FineTuneJob": FineTuneJobSpec, "ModelDeployment": ModelDeploymentSpec}


@dataclass(frozen=True)
class Mistake:
    path: Path
    answered_by: str
    expect: str


def mistake(path: Path) -> Mistake:
    """Raises KeyError when the header lacks a line."""
    header = dict(re.findall(r"^# (mistake|answered-by|expect|then): (.+)$", path.read_text(), re.MULTILINE))
    header["mistake"]
    return Mistake(path, header["answered-by"], header["expect"])


@cache
def documents(path: Path) -> list[dict[str, Any]]:
    """Not to be changed: each file is read once."""
    return [d for d in yaml.safe_load_all(path.read_text()) if d]


def jobs(path: Path) -> list[dict[str, Any]]:
    return [d for d in documents(path) if d["kind"] == "FineTuneJob"]


def ours(path: Path) -> list[dict[str, Any]]:
    """FineTuneJobs and ModelDeployments."""
    return [d for d in documents(path) if d["kind"] in SPECS]
