"""`FineTuneJob.status`: what happened, with evidence, and what happens next.

Besides telling people, it holds the few facts the operator cannot derive again: the attempt it decided on, what
preflight resolved, when a preemption was noticed. Lists are bounded; older attempts are folded into `totals`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel
from finetune_api.manifests import GateResult, MetricValue
from finetune_api.reports import CheckpointReport, Estimate, PublishedModel

MAX_ATTEMPTS = 10
MAX_PREEMPTIONS = 10

Short = Annotated[str, Field(max_length=253)]
Long = Annotated[str, Field(max_length=1100)]
Message = Annotated[str, Field(max_length=2048)]
Time = Annotated[str, Field(max_length=32)]
"""RFC 3339 in UTC."""


class StatusModel(ApiModel):
    """Read leniently: a status written by a newer operator must not stop an older one."""

    model_config = ConfigDict(extra="ignore")


class Phase(StrEnum):
    PENDING = "Pending"
    QUEUED = "Queued"
    STARTING = "Starting"
    RUNNING = "Running"
    RECOVERING = "Recovering"
    PUBLISHING = "Publishing"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SUSPENDED = "Suspended"


class ConditionType(StrEnum):
    ACCEPTED = "Accepted"
    RUNNING = "Running"
    CHECKPOINTED = "Checkpointed"
    EVALUATED = "Evaluated"
    PUBLISHED = "Published"
    COMPLETE = "Complete"
    FAILED = "Failed"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Condition(StatusModel):
    type: Short
    status: Literal["True", "False", "Unknown"]
    reason: Short
    message: Message = ""
    observed_generation: int | None = None
    last_transition_time: Time


class ProgressStatus(StatusModel):
    summary: Short
    """`420/1000 42%`."""
    step: int
    total_steps: int
    epoch: float | None = None
    loss: float | None = None
    eval_loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: int | None = None
    eta: Short | None = None
    loss_text: Short | None = None
    """The loss with four digits, for the printer column (CRD columns print floats raw)."""
    stage: Short | None = None
    skipped_steps: int | None = None
    """Batches that onNaN, onSpike or an FP16 overflow left out; absent when there is none."""
    slowest_rank: int | None = None
    """Present while everybody waits for one rank, step after step."""
    unreachable_since: Time | None = None
    """Polls fail since then; training is not concluded to have failed from that."""
    updated_at: Time


class CheckpointStatus(CheckpointReport):
    model_config = ConfigDict(extra="ignore")


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "Succeeded"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    SUSPENDED = "Suspended"
    START_TIMEOUT = "StartTimeout"
    DEADLINE = "DeadlineExceeded"
    INVALID_SPEC = "InvalidSpec"
    DATA_INVALID = "DataInvalid"
    OUT_OF_MEMORY = "OutOfMemory"
    DIVERGED = "Diverged"
    NO_CHECKPOINT = "NoCheckpoint"
    STORAGE = "StorageError"
    DEVICE = "DeviceError"
    HANG = "Hang"
    GATE_FAILED = "GateFailed"
    """Publish only."""
    ERROR = "Error"
    DELETED = "Deleted"
    """Somebody else deleted the Job."""


class AttemptStatus(StatusModel):
    index: int
    job: Short
    generation: int
    spec_digest: Short
    nodes: int
    gpus_per_node: int
    processes_per_node: int = 1
    micro_batch_size: int | None = None
    excluded_nodes: Annotated[list[Short], Field(max_length=16)] = []
    created_at: Time
    """When it was decided; its Job follows."""
    job_uid: Short | None = None
    started_at: Time | None = None
    """When its Job was made."""
    running_at: Time | None = None
    """When all its pods were first seen running."""
    resumed_at: Time | None = None
    """When it took its first step."""
    finished_at: Time | None = None
    released_at: Time | None = None
    """When its last pod was over."""
    stopping: Short | None = None
    """Why the operator ends it, decided before the Job is deleted."""
    outcome: Outcome | None = None
    exit_code: int | None = None
    start_step: int | None = None
    end_step: int | None = None
    """The newest step known to have been reached."""
    committed_step: int | None = None
    lost_steps: int | None = None
    node: Short | None = None
    """Of the pod that ended it."""
    message: Message | None = None


class PreemptionStatus(StatusModel):
    attempt: int
    node: Short | None = None
    source: Short
    noticed_at: Time
    checkpoint_requested_at: Time | None = None
    checkpoint_committed_at: Time | None = None
    checkpoint_step: int | None = None
    pods_released_at: Time | None = None
    resumed_at: Time | None = None
    lost_steps: int | None = None


class WastedGpuSeconds(StatusModel):
    preemption: int = 0
    failure: int = 0
    queueing: int = 0


class Totals(StatusModel):
    attempts: int = 0
    preemptions: int = 0
    restarts: int = 0
    gpu_seconds: int = 0
    wasted_gpu_seconds: WastedGpuSeconds = WastedGpuSeconds()


class Resolved(StatusModel):
    """Found by preflight, pinned for the life of the run."""

    model_revision: Short
    data_fingerprint: Short
    teacher_revision: Short | None = None
    """Of objective.distill.teacher or topK, or of a reward model."""
    pins: Annotated[dict[str, Short], Field(max_length=16)] | None = None
    """Repositories of the Hub, and the commit that is read of each."""
    run_key: Short
    run_uri: Long
    image: Annotated[str, Field(max_length=512)]
    frozen_digest: Short
    highest_fence: int = 0
    """Attempts of a former FineTuneJob in this run directory; ours are numbered from above."""
    world_size: int | None = None
    global_batch_size: int | None = None
    micro_batch_size: int | None = None
    gradient_accumulation: int | None = None
    strategy: Short | None = None
    """What parallelism.strategy came to, by the newest attempt."""
    strategy_why: Message | None = None
    attention: Short | None = None
    """What model.attention came to, as transformers names it."""
    checkpoint_interval: Short | None = None
    """As the newest attempt uses it; where the spec says Auto it follows what was measured."""


class PreflightStatus(StatusModel):
    """The newest finished try."""

    tries: int = 0
    """In a row without a result."""
    generation: int = 0
    pod_uid: Short | None = None
    exit_code: int | None = None
    reason: Short | None = None
    field: Short | None = None
    message: Message | None = None
    finished_at: Time | None = None
    sampled_records: int | None = None
    warnings: Annotated[list[Message], Field(max_length=8)] = []


class PublishStatus(StatusModel):
    """The newest try."""

    index: int = 0
    failures: int = 0
    """In a row; preemptions do not count."""
    spec_digest: Short
    """Over the parts of the spec that publishing depends on."""
    job: Short
    job_uid: Short | None = None
    created_at: Time
    started_at: Time | None = None
    finished_at: Time | None = None
    stopping: Short | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    message: Message | None = None


class EvaluationStatus(StatusModel):
    metrics: Annotated[dict[Short, MetricValue], Field(max_length=32)] = {}
    gate: Annotated[list[GateResult], Field(max_length=17)] = []
    gate_passed: bool | None = None


class FineTuneJobStatus(StatusModel):
    observed_generation: int | None = None
    phase: Phase | None = None
    reason: Short | None = None
    message: Message | None = None
    restarts: int = 0
    gpus: int | None = None
    progress: ProgressStatus | None = None
    checkpoint: CheckpointStatus | None = None
    attempts: Annotated[list[AttemptStatus], Field(max_length=MAX_ATTEMPTS)] = []
    preemptions: Annotated[list[PreemptionStatus], Field(max_length=MAX_PREEMPTIONS)] = []
    totals: Totals = Totals()
    preflight: PreflightStatus | None = None
    estimate: Estimate | None = None
    resolved: Resolved | None = None
    publish: PublishStatus | None = None
    evaluation: EvaluationStatus | None = None
    output: PublishedModel | None = None
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = []
