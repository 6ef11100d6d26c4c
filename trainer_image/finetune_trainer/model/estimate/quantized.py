"""What QLoRA's quantized layers take, by shape: codes, scales, and one weight dequantized at a time."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import LoRA, MethodType, Quantization, QuantType
from finetune_api.training import Precision
from finetune_trainer.model.estimate.shapes import linear_modules, matches
from finetune_trainer.model.inspect import ModelInfo

_BLOCK, _SECOND_BLOCK = 64, 256
"""Values of one scale, and scales of one scale (Dettmers et al. 2023, section 3)."""
_FP32, _HALF = 4, 2


def saved(model: ModelInfo, spec: FineTuneJobSpec, *, resting: int) -> int:
    """Bytes that the frozen base takes less than at `resting` bytes for each parameter; 0 for other methods."""
    quantization = spec.method.quantization or Quantization()
    return sum(resting * out * into - layer_bytes(out, into, quantization) for out, into in _layers(model, spec))


def layer_bytes(out: int, into: int, quantization: Quantization) -> int:
    """Of one weight: 1 byte and a scale for each output, or half a byte and a scale for each 64 values."""
    if quantization.kind is QuantType.INT8:
        return out * into + _FP32 * out
    codes, scales = -(-out * into // 2), -(-out * into // _BLOCK)
    return codes + (scales + _FP32 * -(-scales // _SECOND_BLOCK) if quantization.doubled else _FP32 * scales)


def transient_bytes(model: ModelInfo, spec: FineTuneJobSpec) -> int:
    """The largest weight, dequantized in the precision of computation; 0 for other methods."""
    compute = _FP32 if spec.training.precision is Precision.FP32 else _HALF
    return compute * max((out * into for out, into in _layers(model, spec)), default=0)


def _layers(model: ModelInfo, spec: FineTuneJobSpec) -> Iterator[tuple[int, int]]:
    if spec.method.type is MethodType.QLORA:
        whole = (spec.method.lora or LoRA()).modules_to_save
        for name, extent in linear_modules(model.tensors).items():
            if not any(matches(name, one) for one in whole):
                yield extent
