"""What pods tell the operator: progress while they run, last words when they end.

Last words travel as the termination message (at most 4 KiB); every string is clipped by the writer and again by the
reader. All numbers are finite or absent.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from finetune_api.base import WireModel
from finetune_api.manifests import GateResult, MetricValue
from finetune_api.runconfig import TERMINATION_LOG_MAX


def clip(text: str, limit: int) -> str:
    """The text, at most `limit` characters, control characters replaced, the cut marked."""
    clean = "".join(c if c == "\n" or c.isprintable() else "\ufffd" for c in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "\u2026"


def _clipped(limit: int) -> Any:
    return BeforeValidator(lambda value: clip(value, limit) if isinstance(value, str) else value)


Word = Annotated[str, _clipped(63)]
Sentence = Annotated[str, _clipped(1024)]
Text = Annotated[str, _clipped(2048)]
Timestamp = Annotated[str, Field(max_length=32)]
"""RFC 3339 in UTC, `2026-01-02T03:04:05.678Z`."""
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Stage(StrEnum):
    """Of a trainer pod."""

    FETCHING = "Fetching"
    STARTING = "Starting"
    TRAINING = "Training"
    SAVING = "Saving"
    STOPPING = "Stopping"
    DONE = "Done"


class CheckpointReport(WireModel):
    step: int
    attempt: int
    uri: Annotated[str, _clipped(1024)]
    bytes: int
    seconds: Finite
    """From the agreed step to the committed manifest."""
    stall_seconds: Finite = 0.0
    """Of that, the time training stood still."""
    digest: Word
    """The trainable digest."""
    at: Timestamp


class Progress(WireModel):
    """`GET /progress`. Index 0 answers for the gang; the others for themselves."""

    format: int = 1
    attempt: int
    index: int = 0
    stage: Stage
    step: int = 0
    total_steps: int = 0
    epoch: Finite = 0.0
    loss: Finite | None = None
    eval_loss: Finite | None = None
    retention: Annotated[dict[Word, Finite], Field(max_length=8)] = {}
    """By term, what spec.retention added to the loss of the last step."""
    tokens_per_second: Finite | None = None
    step_seconds: Finite | None = None
    eta_seconds: Finite | None = None
    data_wait_percent: Finite | None = None
    """Of a step's time, smoothed: how long rank 0 stood still for its batch."""
    start_step: int = 0
    """The step this attempt resumed from; 0 from the base model."""
    running_at: Timestamp | None = None
    """When this attempt took its first step (or resumed)."""
    global_batch_size: int | None = None
    micro_batch_size: int | None = None
    gradient_accumulation: int | None = None
    world_size: int | None = None
    strategy: Word | None = None
    strategy_why: Sentence | None = None
    attention: Word | None = None
    checkpoint: CheckpointReport | None = None
    checkpoint_interval_seconds: Finite | None = None
    """What spec.checkpoint.interval comes to now."""
    skipped_steps: int = 0
    """Batches that onNaN, onSpike or an FP16 overflow left out, since the run's beginning."""
    slowest_rank: int | None = None
    """Set while one rank's own work takes clearly longer than the fastest one's, step after step."""
    slowest_ratio: Finite | None = None
    ended_early: Sentence | None = None
    """Why training ended before its last planned step."""
    stop_requested_at: Timestamp | None = None
    updated_at: Timestamp


class CheckpointRequest(WireModel):
    """`POST /checkpoint`. With `stop` the gang exits 85 afterwards; repeated requests are one."""

    reason: Word
    stop: bool = False


class LastWords(WireModel):
    """A trainer pod's termination message and `attempts/<n>/exit-<index>.json`."""

    format: int = 1
    attempt: int
    index: int
    exit_code: int
    reason: Word
    message: Sentence
    """What happened and what to do, for people."""
    first_failing_rank: int | None = None
    step: int = 0
    start_step: int = 0
    running_at: Timestamp | None = None
    checkpoint: CheckpointReport | None = None
    """The newest this attempt committed."""
    stop_requested_at: Timestamp | None = None
    micro_batch_size: int | None = None
    traceback: Text | None = None
    log_tail: Annotated[str, _clipped(65536)] | None = None
    at: Timestamp


class PublishedModel(WireModel):
    uri: Annotated[str, _clipped(1024)]
    digest: Annotated[str, _clipped(80)]
    manifest: Annotated[str, _clipped(1100)]
    merged: bool


TrueFalseUnknown = Annotated[str, Field(pattern="^(True|False|Unknown)$")]


class MemoryParts(WireModel):
    """Bytes of one process. Not all of them are at their most at one time."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    buffers: int
    reserve: int


class Estimate(WireModel):
    """From the model's configuration alone; `fits` is Unknown where the GPUs' memory is not known."""

    parameters: int
    trainable_parameters: int
    memory_per_gpu_bytes: int
    """Of each process, on CPU too."""
    memory: MemoryParts | None = None
    capacity_bytes: int | None = None
    """What a process may use, as far as the spec says it."""
    fits: TrueFalseUnknown = "Unknown"
    strategy: Word | None = None
    """The one the estimate is for."""
    strategy_why: Sentence | None = None
    tokens_per_second_per_gpu: Finite | None = None
    """At 40 % of the GPU's peak."""
    step_seconds: Finite | None = None
    """Were every row maxLength tokens long."""
    total_gpu_hours: Finite | None = None
    checkpoint_bytes: int
    notice_fits: TrueFalseUnknown = "Unknown"
    """Whether a step and a checkpoint are done within spec.checkpoint.notice."""


class PreflightReport(WireModel):
    """Preflight's termination message. `field` is the spec path the message is about."""

    format: int = 1
    exit_code: int
    reason: Word
    message: Sentence
    field: Annotated[str, _clipped(256)] | None = None
    run_key: Word | None = None
    model_revision: Annotated[str, _clipped(128)] | None = None
    data_fingerprint: Annotated[str, _clipped(128)] | None = None
    teacher_revision: Annotated[str, _clipped(128)] | None = None
    pins: dict[str, str] = {}
    """See RunConfig.pins."""
    sampled_records: int | None = None
    estimate: Estimate | None = None
    highest_fence: int = 0
    """Of the run directory: a re-created FineTuneJob counts its attempts from above it."""
    published: PublishedModel | None = None
    """Set when the run directory already holds a committed model."""
    warnings: Annotated[list[Sentence], Field(max_length=8)] = []
    at: Timestamp


class PublishReport(WireModel):
    """The publish pod's termination message."""

    format: int = 1
    exit_code: int
    reason: Word
    message: Sentence
    stage: Word = ""
    metrics: dict[Word, MetricValue] = {}
    gate: Annotated[list[GateResult], Field(max_length=17)] = []
    """One result for each gate of the spec, and one for the served check."""
    gate_passed: bool | None = None
    output: PublishedModel | None = None
    traceback: Text | None = None
    at: Timestamp


def termination_message(report: WireModel, *, limit: int = TERMINATION_LOG_MAX) -> str:
    """The report as JSON of at most `limit` bytes: the log tail goes first, then the traceback and the
    message are shortened until it fits."""
    wire = report.to_wire()
    wire.pop("logTail", None)
    for budget in (2048, 1024, 512, 256, 64, 0):
        for key in ("traceback", "message"):
            if isinstance(wire.get(key), str) and len(wire[key]) > budget:
                wire[key] = clip(wire[key], budget) if key == "message" else wire[key][len(wire[key]) - budget :]
        text = json.dumps(wire, separators=(",", ":"), ensure_ascii=True)
        if len(text) <= limit:
            return text
    return text[:limit]
