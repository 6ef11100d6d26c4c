"""`FineTuneJob.spec.training`: how long, how fast, in which precision, and what to do when numbers go wrong."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, Decimal, cel, rules


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
