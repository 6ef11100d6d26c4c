"""What a teacher, or a reward model, costs beside the model that learns from it: 0 everywhere where there is none.

It stands whole on every process whatever the strategy, and is asked forward only, so that it keeps no activations.
"""

from __future__ import annotations

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import objective_of
from finetune_api.objective_distill import DivergenceType
from finetune_trainer.model.estimate.shapes import Shape
from finetune_trainer.model.inspect import ModelInfo

FP32, HALF = 4, 2
_KL, _JSD, _TOP_K, _MIXED = 3, 7, 2, 1
"""Tensors of fp32, positions by vocabulary, beside the three of SFT: the teacher's log-probabilities and what the
divergence keeps of both; the log-softmax of SFT's share where `weight` leaves it one."""


def weight_bytes(model: ModelInfo, spec: FineTuneJobSpec) -> int:
    """In the precision of training on a GPU, in fp32 on a CPU."""
    if model.teacher is None:
        return 0
    half = spec.resources.gpus_per_node > 0 and spec.training.precision.halved
    return (HALF if half else FP32) * model.teacher.parameters


def logit_bytes(model: ModelInfo, spec: FineTuneJobSpec, *, positions: int) -> int:
    settings = objective_of(spec).distill
    if settings is None:
        return 0
    if settings.top_k is not None:
        return (_TOP_K + (_MIXED if settings.weight != "1" else 0)) * FP32 * positions * Shape.of(model).vocabulary
    tensors = (_JSD if settings.loss is DivergenceType.JSD else _KL) + (_MIXED if settings.weight != "1" else 0)
    return tensors * FP32 * positions * Shape.of(model).vocabulary


def flops_per_token(model: ModelInfo, *, length: int) -> float:
    """Forward only: 2 per parameter, and a third of the attention that a trained model has."""
    if model.teacher is None:
        return 0.0
    shape = Shape.of(model.teacher)
    return 2.0 * model.teacher.parameters + 2.0 * shape.layers * shape.queries * length
