"""Where a job runs, how long it may wait, and how often it is tried again: what changes nothing about the model."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, Duration, LabelMap, ObjectName, Quantity, cel, rules


class SecretRef(ApiModel):
    """A Secret in the job's own namespace. Its keys are the usual environment names
    (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL)."""

    name: ObjectName


class Toleration(ApiModel):
    key: Annotated[str, Field(max_length=316)] | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: Annotated[str, Field(max_length=253)] | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None


class EnvVar(ApiModel):
    """A plain variable. Names that start with FINETUNE_ are refused: they belong to the contract with the trainer."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("!self.name.startsWith('FINETUNE_')", "variables that start with FINETUNE_ are reserved")
        )
    )

    name: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: Annotated[str, Field(max_length=4096)] = ""


ResourceMap = Annotated[dict[Annotated[str, Field(max_length=316)], Quantity], Field(max_length=16)]


class EstimatePolicy(StrEnum):
    WARN = "Warn"
    ENFORCE = "Enforce"


class Resources(ApiModel):
    """The gang's shape. Requests and limits are per pod."""

    nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    gpus_per_node: Annotated[int, Field(ge=0, le=64, description="0 trains on CPU.")] = 1
    processes_per_node: Annotated[int, Field(ge=1, le=64, description="Unset: gpusPerNode, or 1 on CPU.")] | None = None
    gpu_resource: Annotated[str, Field(min_length=1, max_length=316)] = "nvidia.com/gpu"
    requests: ResourceMap | None = None
    limits: ResourceMap | None = None
    node_selector: LabelMap | None = None
    tolerations: Annotated[list[Toleration], Field(max_length=32)] | None = None
    scheduler_name: ObjectName | None = None
    runtime_class_name: ObjectName | None = None
    service_account_name: ObjectName | None = None
    image_pull_secrets: Annotated[list[SecretRef], Field(max_length=8)] | None = None
    shared_memory: Annotated[Quantity, Field(description="Size of /dev/shm.")] = "1Gi"
    env: Annotated[list[EnvVar], Field(max_length=64)] | None = None
    estimate_policy: Annotated[
        EstimatePolicy,
        Field(
            description="When the memory estimate says that the job does not fit: warn, or refuse it before anything "
            "is started. An estimate that cannot tell refuses nothing."
        ),
    ] = EstimatePolicy.WARN


class Scheduling(ApiModel):
    priority_class_name: ObjectName | None = None
    start_timeout: Annotated[
        Duration,
        Field(description="All pods of an attempt must run within this time, else GPUs are released."),
    ] = "15m"


class Backoff(ApiModel):
    initial: Duration = "10s"
    max: Duration = "5m"


class Retry(ApiModel):
    max_restarts: Annotated[int, Field(ge=0, le=1000, description="Preemptions do not count.")] = 3
    backoff: Backoff = Backoff()
    hang_timeout: Duration = "10m"
    active_deadline: Annotated[Duration, Field(description="From the first attempt's start to its end.")] | None = None
    no_progress_limit: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Attempts in a row without a newly committed step, whatever the cause, before NoProgress.",
        ),
    ] = 3
