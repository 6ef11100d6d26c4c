"""What an optimizer remembers, in bytes; the same that a checkpoint stores of it."""

from __future__ import annotations

import math

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.training import OptimizerType
from finetune_trainer.model.estimate.trained import trainable_parameters, trained_extents
from finetune_trainer.model.inspect import ModelInfo

FP32 = 4
_BLOCK = 256


def state_bytes(model: ModelInfo, spec: FineTuneJobSpec) -> int:
    """Of all trained parameters together. AdamW keeps two moments in fp32 (Loshchilov and Hutter 2019), Lion one;
    8-bit moments are two codes and two fp32 scales per 256 values; Adafactor keeps a row and a column per matrix."""
    trained = trainable_parameters(model, spec)
    match spec.training.optimizer.type:
        case OptimizerType.ADAMW:
            return 2 * FP32 * trained
        case OptimizerType.LION:
            return FP32 * trained
        case OptimizerType.ADAMW_8BIT:
            return 2 * trained + 2 * FP32 * (trained // _BLOCK)
        case OptimizerType.ADAFACTOR:
            return FP32 * _edges(model, spec)


def _edges(model: ModelInfo, spec: FineTuneJobSpec) -> int:
    """Rows and columns of the trained matrices, and the elements of trained vectors."""
    extents = trained_extents(model, spec)
    return sum(sum(extent[-2:]) if len(extent) > 1 else math.prod(extent) for extent in extents)
