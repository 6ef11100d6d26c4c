"""`FineTuneJob.spec.training`: how long, how fast, in which precision, and what to do when numbers go wrong."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, Decimal, cel, rules
from finetune_api.speed import Kernels


class SchedulerType(StrEnum):
    COSINE = "Cosine"
    LINEAR = "Linear"
    CONSTANT = "Constant"
    WSD = "WSD"
    INVERSE_SQRT = "InverseSqrt"


class DecayShape(StrEnum):
    LINEAR = "Linear"
    COSINE = "Cosine"
    ONE_MINUS_SQRT = "OneMinusSqrt"


class WSD(ApiModel):
    """Warm-up, stable, decay: the peak is held, and the rate falls in the last part of the run only."""

    decay_percent: Annotated[int, Field(ge=1, le=100, description="Of all steps: those in which it falls.")] = 10
    shape: Annotated[
        DecayShape, Field(description="How it falls; OneMinusSqrt is 1 - sqrt(share of the decay that is done).")
    ] = DecayShape.LINEAR


class LRScheduler(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.wsd) || self.type == 'WSD'", "the wsd block belongs to type WSD; remove it or set type: WSD"
            ),
        )
    )

    type: Annotated[
        SchedulerType,
        Field(
            description="After the warm-up: Cosine and Linear fall to the floor at the run's end, Constant stays, WSD "
            "stays and falls at last, InverseSqrt falls as sqrt(w / (steps since the warm-up + w)), w being the "
            "warm-up's steps, or 10,000 without one."
        ),
    ] = SchedulerType.COSINE
    warmup_percent: Annotated[int, Field(ge=0, le=100)] = 3
    min_lr_percent: Annotated[int, Field(ge=0, le=100, description="Floor, as a share of learningRate.")] = 0
    wsd: WSD | None = None


class OptimizerType(StrEnum):
    ADAMW = "AdamW"
    ADAMW_8BIT = "AdamW8bit"
    LION = "Lion"
    ADAFACTOR = "Adafactor"


WHOLE_STATE = (OptimizerType.ADAMW_8BIT, OptimizerType.ADAFACTOR)
"""Their state belongs to whole matrices (rows and columns, blocks of 256 values): it cannot be cut over processes."""
_SHARE = r"^0(\.[0-9]+)?$"
_FACTOR = r"^(0\.[0-9]*[1-9][0-9]*|1(\.0+)?)$"
Share = Annotated[str, Field(min_length=1, max_length=24, pattern=_SHARE)]
"""At least 0 and less than 1."""
Factor = Annotated[str, Field(min_length=1, max_length=24, pattern=_FACTOR)]
"""More than 0 and at most 1."""


class Optimizer(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "self.type != 'Adafactor' || !(has(self.beta1) || has(self.beta2))",
                "beta1 and beta2 belong to AdamW, AdamW8bit and Lion; Adafactor has none",
            ),
            cel(
                "self.type in ['AdamW', 'AdamW8bit'] || !has(self.epsilon)",
                "epsilon belongs to AdamW and AdamW8bit",
            ),
        )
    )

    type: Annotated[
        OptimizerType,
        Field(
            description="State per trained parameter: AdamW 8 bytes, AdamW8bit about 2 (bitsandbytes), Lion 4, "
            "Adafactor next to none (a row and a column of each matrix)."
        ),
    ] = OptimizerType.ADAMW
    weight_decay: Decimal = "0"
    beta1: Annotated[Share, Field(description="0.9 when unset.")] | None = None
    beta2: Annotated[Share, Field(description="0.999 when unset, 0.99 for Lion.")] | None = None
    epsilon: Annotated[Decimal, Field(description="1e-8 when unset.")] | None = None
    layerwise_decay: (
        Annotated[
            Factor,
            Field(
                description="Each layer learns at this factor of the rate of the one above it: layer i of L (from 0) "
                "at factor^(L - i), what lies below the layers at factor^(L + 1), what lies above at 1."
            ),
        ]
        | None
    ) = None


class Precision(StrEnum):
    BF16 = "BF16"
    FP16 = "FP16"
    FP32 = "FP32"

    @property
    def halved(self) -> bool:
        """Computes in 16 bits."""
        return self is not Precision.FP32


class ActivationCheckpointing(StrEnum):
    AUTO = "Auto"
    NONE = "None"
    SELECTIVE = "Selective"
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


class EarlyStopping(ApiModel):
    """Ends training, as a success, when the held-out loss has not become lower for a while. It is measured every
    evaluation.intervalSteps, after each epoch when that is unset."""

    patience: Annotated[int, Field(ge=1, le=1000, description="Evaluations in a row that are no better.")] = 3
    min_delta: Annotated[Decimal, Field(description="A loss must be lower by more than this to count as better.")] = "0"


Positive = Annotated[
    str, Field(min_length=1, max_length=24, pattern=r"^(0\.[0-9]*[1-9][0-9]*|[1-9][0-9]*(\.[0-9]+)?)$")
]
"""More than 0."""


class Regularization(ApiModel):
    """Against learning the training set by heart. Held-out losses are measured without any of it."""

    neftune_alpha: (
        Annotated[
            Positive,
            Field(
                description="Uniform noise on the embeddings of each row, of the size alpha / sqrt(tokens * width); 5 "
                "is usual. (NEFTune, Jain et al. 2023)"
            ),
        ]
        | None
    ) = None
    dropout: (
        Annotated[
            Share,
            Field(
                description="Of the base model's own dropout layers and of its attention, instead of what its "
                "configuration says. LoRA's own is method.lora.dropout."
            ),
        ]
        | None
    ) = None
    label_smoothing: (
        Annotated[
            Share,
            Field(
                description="The share of each target token's probability that is spread over the whole vocabulary; "
                "0.1 is usual. With objective SFT or Pretrain. (Szegedy et al. 2016)"
            ),
        ]
        | None
    ) = None


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
    learning_rate: (
        Annotated[
            Decimal, Field(description="2e-4 for LoRA, 2e-5 for FullFineTune when unset; a fifth of that for Lion.")
        ]
        | None
    ) = None
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
    precision: Annotated[
        Precision,
        Field(
            description="Of the computation; trained weights are kept in FP32. FP16 is for GPUs without BF16: losses "
            "are scaled, and steps whose gradients overflow are left out and counted."
        ),
    ] = Precision.BF16
    activation_checkpointing: Annotated[
        ActivationCheckpointing,
        Field(
            description="Full: a layer keeps its input only and computes the rest again in the backward pass, for "
            "about a third more time. Selective: it keeps the results of its large matrix products and of attention, "
            "too, and computes again what is cheap. Auto: the first of None, Selective and Full that fits by the "
            "memory estimate. The model comes out the same."
        ),
    ] = ActivationCheckpointing.AUTO
    compile: Annotated[
        bool,
        Field(
            description="Compile decoder layers (torch.compile): steps get shorter, and each attempt begins with a "
            "minute or so of compiling. A trainer image of your own needs a compiler for that."
        ),
    ] = False
    kernels: Annotated[
        Kernels,
        Field(
            description="Liger: fused kernels for norms, rotations and gated activations of common models, on a GPU. "
            "Torch: the model's own."
        ),
    ] = Kernels.TORCH
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
    early_stopping: EarlyStopping | None = None
    regularization: Regularization | None = None
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] = 42
