"""`FineTuneJob.spec`: what to train, on which data, how, where."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from finetune_api.allowed import RULES
from finetune_api.base import ApiModel, Duration, IntervalOrAuto, Uri, cel, rules
from finetune_api.custom import Trainer, TrainerType, refused
from finetune_api.data import Data
from finetune_api.method import Method
from finetune_api.objective import Objective
from finetune_api.parallelism import Parallelism
from finetune_api.publishing import Evaluation, Output, Publish
from finetune_api.retention import Retention
from finetune_api.running import Resources, Retry, Scheduling, SecretRef
from finetune_api.speed import ATTENTION_RULES, KERNEL_RULES, PRECISION_RULES, Attention
from finetune_api.storage import Stored
from finetune_api.tracking import Tracking
from finetune_api.training import Training


class Model(Stored):
    """The base model: a Hugging Face model directory with safetensors weights and a tokenizer."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!self.uri.startsWith('hf://datasets/')",
                "hf://datasets/ is data; a model of the Hub is hf://organisation/name",
            )
        )
    )

    attention: (
        Annotated[
            Attention,
            Field(
                description="Auto (when unset): SDPA (torch's own kernels, flash among them), or Eager for models "
                "without it. FlashAttention2 needs its package in the trainer image; it and Flex need a GPU. Takes "
                "effect at the next attempt."
            ),
        ]
        | None
    ) = None


class Keep(ApiModel):
    last: Annotated[int, Field(ge=2, le=100)] = 2
    best: (
        Annotated[
            int,
            Field(
                ge=1,
                le=10,
                description="Besides these, the ones of lowest held-out loss: each time it is lower than ever "
                "(evaluation.intervalSteps) a checkpoint is made, and so many are never deleted.",
            ),
        ]
        | None
    ) = None


class Checkpoint(ApiModel):
    uri: Annotated[Uri, Field(description="Unset: the run directory below the installation's store.")] | None = None
    secret_ref: SecretRef | None = None
    interval: Annotated[
        IntervalOrAuto,
        Field(
            description="A Go duration such as 90s or 15m, or Auto: from the measured cost of a checkpoint and this "
            "run's rate of interruptions (Young/Daly), between 30s and 1h."
        ),
    ] = "Auto"
    interval_steps: (
        Annotated[int, Field(ge=1, description="Besides the interval, one every so many optimizer steps.")] | None
    ) = None
    keep: Keep = Keep()
    notice: Annotated[
        Duration, Field(description="The warning a spot node gives; the pods' grace period is at least this.")
    ] = "2m"


_CUSTOM = "has(self.trainer) && has(self.trainer.type) && self.trainer.type == 'Custom'"


class FineTuneJobSpec(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            *ATTENTION_RULES,
            *PRECISION_RULES,
            *KERNEL_RULES,
            *RULES,
            cel(
                "!(has(self.output.checkpoint) && self.output.checkpoint == 'Best') || has(self.checkpoint.keep.best)",
                "output.checkpoint: Best needs checkpoints that are kept for it; set checkpoint.keep.best: 1",
            ),
            cel(
                "!has(self.output.average) || self.output.average.lastK <= self.checkpoint.keep.last",
                "output.average.lastK checkpoints have to be kept; set checkpoint.keep.last to as many",
            ),
            cel(
                "!(has(self.output.average) && has(self.output.checkpoint) && self.output.checkpoint == 'Best')",
                "output.average takes the last checkpoints; remove it, or output.checkpoint: Best",
            ),
            cel(
                f"!has(self.tracking) || !({_CUSTOM})",
                "tracking reads the built-in trainer's metrics; with trainer.type: Custom the script tracks by itself",
            ),
            cel(f"has(self.method) || ({_CUSTOM})", "method is required, unless trainer.type is Custom"),
            cel(
                f"!has(self.method) || !({_CUSTOM})",
                "method belongs to the built-in trainer; with trainer.type: Custom the script decides what trains",
            ),
        )
    )

    model: Model
    data: Data
    # None beside a custom script only, which no code that asks for the method ever sees.
    method: Annotated[Method, Field(description="Required, unless trainer.type is Custom.")] = None  # type: ignore[assignment]
    objective: Objective | None = None
    retention: (
        Annotated[Retention, Field(description="Keeps the model from forgetting what it could before.")] | None
    ) = None
    training: Training = Training()
    parallelism: Parallelism = Parallelism()
    trainer: Trainer = Trainer()
    resources: Resources = Resources()
    scheduling: Scheduling = Scheduling()
    checkpoint: Checkpoint = Checkpoint()
    evaluation: Evaluation = Evaluation()
    output: Output = Output()
    publish: Publish = Publish()
    retry: Retry = Retry()
    tracking: Tracking | None = None
    suspend: bool = False
    retain_pods: Annotated[
        Duration,
        Field(description="How long finished Jobs and pods stay. The FineTuneJob itself is never deleted."),
    ] = "24h"
    run_id: (
        Annotated[
            str,
            Field(
                max_length=63,
                pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
                description="Change it to train the same spec on the same data once more.",
            ),
        ]
        | None
    ) = None

    @property
    def is_custom(self) -> bool:
        return self.trainer.type is TrainerType.CUSTOM

    @model_validator(mode="after")
    def _read_by_somebody(self) -> Self:
        words = None
        if self.is_custom:
            words = refused(self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True))
        elif self.method is None:
            words = "spec.method: is required, unless trainer.type is Custom; for example type: LoRA"
        elif self.trainer.custom is not None:
            words = "spec.trainer.custom: belongs to trainer.type: Custom; remove it, or set the type"
        if words is not None:
            raise ValueError(words)
        return self
