"""`FineTuneJob.spec`: what to train, on which data, how, where."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, Duration, IntervalOrAuto, Uri, cel, rules
from finetune_api.data import Data
from finetune_api.method import Method
from finetune_api.parallelism import Parallelism
from finetune_api.publishing import Evaluation, Output, Publish
from finetune_api.running import Resources, Retry, Scheduling, SecretRef
from finetune_api.storage import Stored
from finetune_api.training import Training


class Model(Stored):
    """The base model: a Hugging Face model directory with safetensors weights and a tokenizer."""


class Trainer(ApiModel):
    image: (
        Annotated[str, Field(min_length=1, max_length=512, description="Unset: the chart's trainer image.")] | None
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


class FineTuneJobSpec(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!(self.training.optimizer.type in ['AdamW8bit', 'Adafactor']) || "
                "self.parallelism.strategy in ['Auto', 'DDP']",
                "training.optimizer.type AdamW8bit and Adafactor keep state of whole matrices: DDP only; "
                "set parallelism.strategy: DDP or Auto, or optimizer.type AdamW or Lion",
            ),
            cel(
                "!(has(self.output.checkpoint) && self.output.checkpoint == 'Best') || has(self.checkpoint.keep.best)",
                "output.checkpoint: Best needs checkpoints that are kept for it; set checkpoint.keep.best: 1",
            ),
        )
    )

    model: Model
    data: Data
    method: Method
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
