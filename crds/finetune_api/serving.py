"""What a revision is made of: the model, the engine, the pods' resources. All of it is optional without CRD defaults.

A revision's identity is a hash over the fields that a user set. A default written into the object by the API server
could not be told from a choice, so what is unset here is resolved when the revision is made, never before.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, LabelMap, ObjectName, Quantity, Uri, cel, rules
from finetune_api.running import EnvVar, ResourceMap, SecretRef, Toleration


class FineTuneJobRef(ApiModel):
    """A FineTuneJob in the same namespace."""

    name: ObjectName


class SelectorRequirement(ApiModel):
    key: Annotated[str, Field(min_length=1, max_length=316)]
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=32)] | None = None


class LabelSelector(ApiModel):
    """As everywhere in Kubernetes; an empty selector is refused, it would select every job."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "(has(self.matchLabels) && self.matchLabels.size() > 0) || "
                "(has(self.matchExpressions) && self.matchExpressions.size() > 0)",
                "set matchLabels or matchExpressions; an empty selector would select every FineTuneJob",
            )
        )
    )

    match_labels: LabelMap | None = None
    match_expressions: Annotated[list[SelectorRequirement], Field(max_length=16)] | None = None


class ServedModel(ApiModel):
    """What is served: a published model by its URI, a FineTuneJob's output, or the newest of several jobs'."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "[has(self.uri), has(self.fineTuneJobRef), has(self.fineTuneJobSelector)].filter(x, x).size() == 1",
                "set exactly one of uri, fineTuneJobRef, fineTuneJobSelector",
            ),
            cel(
                "!has(self.secretRef) || has(self.uri)",
                "secretRef belongs to uri; the output of a FineTuneJob is read with the job's own Secret",
            ),
        )
    )

    uri: Uri | None = None
    secret_ref: SecretRef | None = None
    fine_tune_job_ref: FineTuneJobRef | None = None
    fine_tune_job_selector: (
        Annotated[
            LabelSelector,
            Field(description="The newest Succeeded match in this namespace is served: continuous delivery."),
        ]
        | None
    ) = None
    served_name: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=128,
                pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$",
                description="The model name clients send. Unset: metadata.name.",
            ),
        ]
        | None
    ) = None
    require_gate: Annotated[bool, Field(description="Refuse a model whose evaluation gate did not pass.")] = True


class DType(StrEnum):
    AUTO = "Auto"
    BF16 = "BF16"
    FP16 = "FP16"
    FP32 = "FP32"


_OWNED_FLAGS = (
    "model",
    "host",
    "port",
    "uds",
    "served-model-name",
    "max-model-len",
    "dtype",
    "tensor-parallel-size",
    "gpu-memory-utilization",
    "trust-remote-code",
    "load-format",
    "config",
    "disable-log-stats",
    "root-path",
    "shutdown-timeout",
    "ssl-keyfile",
    "ssl-certfile",
    "api-key",
)


class Engine(ApiModel):
    """vLLM's settings. Its flags that have a field here, or belong to the operator, are refused in `args`."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.args) || !self.args.exists(a, a.replace('_', '-').matches('^--?("
                + "|".join(_OWNED_FLAGS)
                + ")(=.*)?$'))",
                "args may not set " + ", ".join("--" + flag for flag in _OWNED_FLAGS) + "; use the fields of "
                "spec.engine and spec.model where there is one",
            )
        )
    )

    image: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\s]+$")] | None = None
    args: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=64)] | None = None
    env: Annotated[list[EnvVar], Field(max_length=64)] | None = None
    max_model_len: Annotated[int, Field(ge=16, le=10_000_000, description="Tokens; unset: the model's own.")] | None = (
        None
    )
    dtype: Annotated[DType, Field(description="Unset: Auto, what the model was saved in.")] | None = None
    tensor_parallel: Annotated[int, Field(ge=1, le=64, description="Unset: resources.gpus.")] | None = None
    gpu_memory_utilization_percent: Annotated[int, Field(ge=1, le=100, description="Unset: vLLM's own.")] | None = None


class ServingResources(ApiModel):
    """One engine pod's."""

    gpus: Annotated[int, Field(ge=0, le=64, description="Unset: 1. 0 serves on CPU.")] | None = None
    gpu_resource: Annotated[str, Field(min_length=1, max_length=316, description="Unset: nvidia.com/gpu.")] | None = (
        None
    )
    requests: ResourceMap | None = None
    limits: ResourceMap | None = None
    node_selector: LabelMap | None = None
    tolerations: Annotated[list[Toleration], Field(max_length=32)] | None = None
    scheduler_name: ObjectName | None = None
    priority_class_name: ObjectName | None = None
    runtime_class_name: ObjectName | None = None
    service_account_name: ObjectName | None = None
    image_pull_secrets: Annotated[list[SecretRef], Field(max_length=8)] | None = None
    shared_memory: Annotated[Quantity, Field(description="Size of /dev/shm; unset: 2Gi.")] | None = None
