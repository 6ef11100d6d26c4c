"""Which matrix products `activationCheckpointing: Selective` keeps, and what that takes."""

from __future__ import annotations

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import LoRA
from finetune_trainer.model.estimate.shapes import Shape, linear_modules
from finetune_trainer.model.estimate.trained import LOW_RANK, rank_of, trained_modules
from finetune_trainer.model.inspect import ModelInfo

_CHEAP = 8


def is_kept(*, into: int, out: int) -> bool:
    """Of a product that sums over `into` numbers for each of `out` results. A result costs `into` multiplications to
    compute again, whatever it costs to keep; that of an adapter's second factor, which sums over its rank, is cheap."""
    return _CHEAP * into >= out


def kept_elements(model: ModelInfo, spec: FineTuneJobSpec) -> int:
    """Numbers per token, over all layers: results of matrix products and of attention."""
    shape = Shape.of(model)
    pairs = [(into, out) for out, into in linear_modules(model.tensors).values()]
    if spec.method.type in LOW_RANK:
        for name, (out, into) in trained_modules(model, spec).items():
            rank = rank_of(name, spec.method.lora or LoRA())
            pairs += [(into, rank), (rank, out)]
    return sum(out for into, out in pairs if is_kept(into=into, out=out)) + shape.layers * shape.queries
