"""`FineTuneJob.spec`: what to train, on which data, how, where."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, Decimal, Duration, IntervalOrAuto, Uri, cel, rules
from finetune_api.parallelism import Parallelism
from finetune_api.publishing import Evaluation, Output, Publish
from finetune_api.running import Resources, Retry, Scheduling, SecretRef


class Stored(ApiModel):
    """A thing in storage and the credentials to reach it."""

    uri: Uri
    secret_ref: SecretRef | None = None


class Model(Stored):
    """The base model: a Hugging Face model directory with safetensors weights and a tokenizer."""


class DataFormat(StrEnum):
    AUTO = "Auto"
    MESSAGES = "Messages"
    ALPACA = "Alpaca"
    PROMPT_COMPLETION = "PromptCompletion"


class DataSource(Stored):
    """One JSONL file, or a prefix below which every *.jsonl file is read."""

    format: DataFormat = DataFormat.AUTO
    limit: Annotated[int, Field(ge=1, description="Read at most this many records.")] | None = None


class Validation(ApiModel):
    """Held-out records: a share of the training records by content hash, or sources of their own."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("!(has(self.percent) && has(self.sources))", "set either percent or sources, not both")
        )
    )

    percent: Annotated[int, Field(ge=0, le=50)] | None = None
    sources: Annotated[list[DataSource], Field(min_length=1, max_length=16)] | None = None


class Overflow(StrEnum):
    TRUNCATE = "Truncate"
    DROP = "Drop"
    ERROR = "Error"


class Data(ApiModel):
    train: Annotated[list[DataSource], Field(min_length=1, max_length=64)]
    validation: Validation = Validation()
    max_length: Annotated[int, Field(ge=8, le=1_048_576, description="Tokens per record.")] = 2048
    on_overflow: Annotated[
        Overflow,
        Field(
            description="What happens to a record longer than maxLength. "
            "A record whose targets would be cut off entirely is dropped and counted."
        ),
    ] = Overflow.TRUNCATE
    packing: (
        Annotated[
            bool,
            Field(
                description="Whether short records share rows of maxLength tokens, each attended to by itself; "
                "globalBatchSize then counts rows. Unset: true for model types known to keep records apart, "
                "and a run that has a checkpoint goes on as it began."
            ),
        ]
        | None
    ) = None
    max_bad_records: Annotated[int, Field(ge=0, description="Malformed records to skip before the job fails.")] = 0


class MethodType(StrEnum):
    FULL_FINE_TUNE = "FullFineTune"
    LORA = "LoRA"


class LoRA(ApiModel):
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    alpha: Annotated[int, Field(ge=1, le=4096)] = 32
    dropout: Annotated[str, Field(max_length=24, pattern=r"^0(\.[0-9]+)?$")] = "0"
    target_modules: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]],
        Field(min_length=1, max_length=64, description="AllLinear, or module names as the model spells them."),
    ] = ["AllLinear"]
    rslora: bool = False


class Method(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.lora) || self.type == 'LoRA'",
                "the lora block belongs to type LoRA; remove it or set type: LoRA",
            )
        )
    )

    type: MethodType
    lora: LoRA | None = None


class SchedulerType(StrEnum):
    COSINE = "Cosine"
    LINEAR = "Linear"
    CONSTANT = "Constant"


class LRScheduler(ApiModel):
    type: SchedulerType = SchedulerType.COSINE
    warmup_percent: Annotated[int, Field(ge=0, le=100)] = 3
    min_lr_percent: Annotated[int, Field(ge=0, le=100, description="Floor, as a share of learningRate.")] = 0


class Optimizer(ApiModel):
    type: Literal["AdamW"] = "AdamW"
    weight_decay: Decimal = "0"


class Precision(StrEnum):
    BF16 = "BF16"
    FP32 = "FP32"


class ActivationCheckpointing(StrEnum):
    AUTO = "Auto"
    NONE = "None"
    FULL = "Full"


class OnOOM(StrEnum):
    HALVE_MICRO_BATCH = "HalveMicroBatch"
    FAIL = "Fail"


class OnNaN(StrEnum):
    STOP = "Stop"
    SKIP_BATCH = "SkipBatch"


class OnSpike(StrEnum):
    IGNORE = "Ignore"
    SKIP_BATCH = "SkipBatch"
    STOP = "Stop"


class Training(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("!(has(self.epochs) && has(self.maxSteps))", "set either epochs or maxSteps, not both"),
            cel(
                "!(has(self.globalBatchSize) && has(self.microBatchSize)) || "
                "self.globalBatchSize % self.microBatchSize == 0",
                "globalBatchSize must be a multiple of microBatchSize",
            ),
        )
    )

    epochs: Annotated[int, Field(ge=1, le=1000, description="3 when neither is set.")] | None = None
    max_steps: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    learning_rate: Annotated[Decimal, Field(description="2e-4 for LoRA, 2e-5 for FullFineTune when unset.")] | None = (
        None
    )
    scheduler: LRScheduler = LRScheduler()
    optimizer: Optimizer = Optimizer()
    global_batch_size: (
        Annotated[
            int,
            Field(
                ge=1,
                le=65_536,
                description="Records per optimizer step over all GPUs. "
                "Unset: 8 to 64, so that an epoch has at least 50 steps.",
            ),
        ]
        | None
    ) = None
    micro_batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    max_grad_norm: Decimal = "1.0"
    precision: Precision = Precision.BF16
    activation_checkpointing: Annotated[
        ActivationCheckpointing,
        Field(
            description="Full: a layer keeps its input only and computes the rest again in the backward pass, for "
            "about a third more time. Auto: None where it fits by the memory estimate. The model comes out the same."
        ),
    ] = ActivationCheckpointing.AUTO
    on_nan: Annotated[
        OnNaN,
        Field(
            alias="onNaN",
            description="A loss or gradient that is not a finite number: end the run (72), or leave that batch out; "
            "more than 10 in a row end it all the same.",
        ),
    ] = OnNaN.STOP
    on_spike: Annotated[
        OnSpike,
        Field(
            description="A loss or gradient norm above spikeFactor times its running mean, after the first 20 steps."
        ),
    ] = OnSpike.IGNORE
    spike_factor: Annotated[int, Field(ge=2, le=1000)] = 5
    on_oom: Annotated[OnOOM, Field(alias="onOOM")] = OnOOM.HALVE_MICRO_BATCH
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] = 42


class Trainer(ApiModel):
    image: (
        Annotated[str, Field(min_length=1, max_length=512, description="Unset: the chart's trainer image.")] | None
    ) = None


class Keep(ApiModel):
    last: Annotated[int, Field(ge=2, le=100)] = 2


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
