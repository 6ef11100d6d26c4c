"""The documents that make bytes in storage count: fences, checkpoint manifests, model manifests.

A reader trusts nothing that no manifest names, and nothing whose digest differs.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_api.base import WireModel
from finetune_api.served import ServedResult

Digest = Annotated[str, Field(pattern=r"^(xxh3|sha256):[0-9a-f]{32,64}$")]


class FileRecord(WireModel):
    path: Annotated[str, Field(min_length=1, max_length=1024)]
    size: Annotated[int, Field(ge=0)]
    digest: Digest


class Fence(WireModel):
    """Put at an attempt's start. Checkpoints of lower attempts beyond `resume_step` no longer count."""

    format: int = 1
    attempt: Annotated[int, Field(ge=1)]
    resume_step: Annotated[int, Field(ge=0)]
    """0: from the base model."""
    resume_attempt: int = 0
    """The attempt whose checkpoint is resumed; 0 with resume_step 0."""
    at: str


class CheckpointManifest(WireModel):
    format: int = 1
    job_uid: str
    spec_digest: str
    attempt: int
    step: int
    total_steps: int
    epoch: float
    tokens: int
    """Target tokens seen since step 0."""
    world_size: int
    global_batch_size: int
    seed: int
    loss: float | None = None
    eval_loss: float | None = None
    """Held out, at exactly this step; absent where nobody looked."""
    averaged_steps: list[int] | None = None
    """Of a publish pod's own making (output.average): the weights are the mean of these steps'."""
    trainable_digest: Digest
    """Over the trainable parameters by name, dtype, shape and bytes: equal weights have equal digests whatever
    the attempt or the world size that wrote them. Where ranks hold pieces, over the pieces' digests: comparable between
    attempts of one strategy and world size."""
    files: Annotated[list[FileRecord], Field(min_length=1)]
    seconds: float
    at: str


class MetricValue(WireModel):
    base: float | None = None
    final: float
    samples: int
    """Tokens for loss and perplexity, prompts for exactMatch."""


class GateResult(WireModel):
    metric: str
    passed: bool
    message: str
    """In words, with values: `perplexity 4.10 <= max 5`."""


class Lineage(WireModel):
    namespace: str
    name: str
    uid: str
    run_key: str
    model_uri: str
    model_revision: str
    data_fingerprint: str
    teacher_uri: str | None = None
    teacher_revision: str | None = None
    """What the model learned from beside data: a teacher, its answers, or a reward model."""
    checkpoint_step: int
    checkpoint_attempt: int
    averaged_steps: list[int] | None = None
    """output.average: the mean of the checkpoints of these steps."""
    trainable_digest: Digest
    trainer_version: str
    seed: int


class ModelManifest(WireModel):
    format: int = 1
    kind: Annotated[str, Field(pattern=r"^(Merged|Adapter|Full|Scorer|Classifier)$")]
    digest: Digest
    """sha256 over the sorted file records: the identity of the published model."""
    files: Annotated[list[FileRecord], Field(min_length=1)]
    metrics: dict[str, MetricValue] = {}
    gate: list[GateResult] = []
    gate_passed: bool
    """False only with onGateFailure: Warn."""
    served_check: ServedResult | None = None
    """None: not asked for, no serving image, or an adapter, which is not served by itself."""
    lineage: Lineage
    at: str
