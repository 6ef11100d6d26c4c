"""What DeepSpeed's ZeRO holds, by stage: 4 bytes for each fp32 copy of a parameter or gradient, over the processes
where it is cut (Rajbhandari et al. 2019, section 5), and the buffers that `engine.strategy.zero_start` sets.

DeepSpeed steps on flat copies: of its part of the parameters beside the ones that are computed with, and of its part of
the gradients. Both are counted; ZeRO-3 in 32 bits shares neither.
"""

from __future__ import annotations

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.parallelism import ZERO_STAGES
from finetune_trainer.model.estimate.optimizer import state_bytes
from finetune_trainer.model.estimate.setting import Setting
from finetune_trainer.model.estimate.shapes import Shape, outside_layers
from finetune_trainer.model.estimate.trained import frozen_parameters, trainable_parameters, trains_all
from finetune_trainer.model.inspect import ModelInfo

FP32 = 4
BUCKET_ELEMENTS = 25_000_000
"""Of gradients that are summed, and of parameters that are gathered ahead, at once."""
LIVE_ELEMENTS = 100_000_000
"""Of ZeRO-3: gathered ahead of their use at most, and stepped at once."""


def state(
    model: ModelInfo, spec: FineTuneJobSpec, setting: Setting, *, resting: int, offloaded: bool
) -> tuple[int, int, int]:
    """Bytes of one process: (weights, gradients, optimizer state). `resting`: bytes of a frozen parameter."""
    trained = trainable_parameters(model, spec)
    frozen = frozen_parameters(model, spec)
    stage, share, kept = ZERO_STAGES[setting.strategy], setting.world, 0 if offloaded else 1
    part = FP32 * trained // share
    optimizer = kept * state_bytes(model, spec) // share
    if stage == 3:
        return kept * (2 * part + resting * frozen // share), kept * 2 * part, optimizer
    whole = FP32 * trained + resting * frozen
    return whole + kept * part, (FP32 * trained if stage == 1 else 0) + kept * part, optimizer


def buffers(model: ModelInfo, spec: FineTuneJobSpec, setting: Setting, *, resting: int) -> int:
    """Bytes: a bucket of gradients; under ZeRO-3 what is gathered, in the precision it rests in."""
    bucket = FP32 * min(BUCKET_ELEMENTS, trainable_parameters(model, spec))
    if ZERO_STAGES[setting.strategy] < 3:
        return bucket
    outside = outside_layers(model)
    layer = max(1, (model.parameters - outside) // Shape.of(model).layers)
    gathered = min(model.parameters, max(outside, layer) + LIVE_ELEMENTS)
    return bucket + (FP32 if trains_all(spec) else resting) * gathered
