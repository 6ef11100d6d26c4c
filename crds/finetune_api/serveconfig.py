"""What the small image's serving pods are told, and what they answer.

One document for three commands: `verify` (is this the published model, and did it pass its gate), `fetch` (bring it
into the engine's volume) and `check` (ask the candidate, and stable beside it). It is mounted at
`runconfig.CONFIG_PATH`; secrets are found as in `runconfig`. Answers travel as termination messages.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_api.base import WireModel
from finetune_api.data import DataSource
from finetune_api.reports import Finite, Sentence, Timestamp, Word
from finetune_api.rollout import QualityMetric

MODEL_DIR = "/model"
"""Where the engine finds the model: an emptyDir that `fetch` fills."""
MODEL_DIR_ENV = "FINETUNE_MODEL_DIR"
"""Names another folder (local runs, tests)."""
ENGINE_PORT = 8000
SERVICE_PORT = 80


class QualityCheck(WireModel):
    data: DataSource
    metric: QualityMetric
    min_delta: str
    min: str | None = None
    max_tokens: int = 64


class CheckTargets(WireModel):
    candidate_url: str
    """`http://<service>.<namespace>.svc.<domain>`; OpenAI paths below it."""
    stable_url: str | None = None
    """Absent while nothing is served yet."""
    candidate_name: str
    """Served model names: requests must name the model."""
    stable_name: str | None = None
    prompts: list[str] = []
    max_logprob_delta: str = "0.1"
    quality: list[QualityCheck] = []


class ServeConfig(WireModel):
    format: int = 1
    namespace: str
    name: str
    """Of the ModelDeployment."""
    revision: str | None = None
    model_uri: str
    secret: str | None = None
    expected_digest: str | None = None
    """Of the model; a manifest with another one is refused."""
    require_gate: bool = True
    check: CheckTargets | None = None
    """Of `check` alone."""
    deadline_seconds: Annotated[float, Field(gt=0)] = 600.0
    """`check`: for everything. `fetch`: how long storage may stay away while not one byte arrives."""


class VerifyReport(WireModel):
    """`exitCode` 0: the manifest is whole and every file it names is there with its size."""

    format: int = 1
    exit_code: int
    reason: Word
    message: Sentence
    digest: Annotated[str, Field(max_length=80)] | None = None
    gate_passed: bool | None = None
    files: int = 0
    bytes: int = 0
    at: Timestamp


class QualityResult(WireModel):
    metric: Word
    data: Sentence
    candidate: Finite
    stable: Finite | None = None
    samples: int
    passed: bool
    message: Sentence


class CheckReport(WireModel):
    """`exitCode` 0: the candidate answered everything well enough."""

    format: int = 1
    exit_code: int
    reason: Word
    message: Sentence
    prompts: int = 0
    logprob_delta: Finite | None = None
    """Mean absolute difference per token to the trainer's logprobs."""
    tokens: int = 0
    quality: Annotated[list[QualityResult], Field(max_length=8)] = []
    at: Timestamp


class FetchReport(WireModel):
    format: int = 1
    exit_code: int
    reason: Word
    message: Sentence
    bytes: int = 0
    seconds: Finite = 0.0
    at: Timestamp
