"""Frozen linear layers in 4 or 8 bits (Dettmers et al. 2023, "QLoRA"; the codes are bitsandbytes').

One layer of our own for all three kinds. bitsandbytes' own layers choose kernels by device, keep their precision of
computation to themselves, and quantize the activations too where the weights are INT8: what was trained could then not
be computed again by dequantized weights. Here a product is always that of the dequantized weight, forward and backward,
in the precision that autocast asks for, so merging is exact.

The codes are made on the CPU, from values in bf16, on every machine and at publishing: the same base gives the same
codes wherever, and in whichever precision, it was loaded. They are no part of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from finetune_api.method import Quantization, QuantType
from finetune_trainer.common.errors import SpecError

BLOCK = 64
"""Values that share a scale in 4 bits, as in the paper."""


class Quantized(nn.Linear):
    """`weight` holds codes (uint8, two to a byte, or int8); the scales go where it goes, and keep their precision."""

    def __init__(self, dense: nn.Linear, quantization: Quantization) -> None:
        super().__init__(dense.in_features, dense.out_features, bias=dense.bias is not None, device="meta")
        from bitsandbytes import functional

        self._kind = quantization.kind
        values = dense.weight.detach().to("cpu", torch.bfloat16).float()
        if self._kind is QuantType.INT8:
            codes, self._scales, _ = functional.int8_vectorwise_quant(values)
        else:
            codes, self._scales = functional.quantize_4bit(
                values,
                blocksize=BLOCK,
                compress_statistics=quantization.doubled,
                quant_type=self._kind.value.lower(),
            )
        self.weight = nn.Parameter(codes, requires_grad=False)
        if dense.bias is not None:
            self.bias = dense.bias

    def dequantized(self, dtype: torch.dtype) -> torch.Tensor:
        """(out, in)."""
        from bitsandbytes import functional

        if self._kind is QuantType.INT8:
            found: torch.Tensor = (self.weight * (self._scales / 127).unsqueeze(1)).to(dtype)
        else:
            self._scales.dtype = dtype
            found = functional.dequantize_4bit(self.weight, self._scales)
        return found

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        kind = input.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else input.dtype
        product: torch.Tensor = _Product.apply(input.to(dtype), self, dtype)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias.to(dtype)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = self.weight.device
        if self._kind is QuantType.INT8:
            self._scales = self._scales.to(device)
        else:
            self._scales.to(device)
        return self


class _Product(torch.autograd.Function):
    """x·Wᵀ. The weight is dequantized again for the gradient: it is never kept."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, layer: Quantized, dtype: torch.dtype) -> torch.Tensor:
        ctx.layer, ctx.dtype = layer, dtype
        return nn.functional.linear(input, layer.dequantized(dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        (gradient,) = gradients
        if not ctx.needs_input_grad[0]:
            return None, None, None
        return gradient.to(ctx.dtype) @ ctx.layer.dequantized(ctx.dtype), None, None


def quantize(base: nn.Module, quantization: Quantization, *, whole: Iterable[str] = ()) -> None:
    """Every linear layer but the output head and those that `whole` names, in place. Raises SpecError when there is
    none."""
    output = getattr(base, "get_output_embeddings", None)
    head = output() if callable(output) else None
    kept = tuple(whole)
    found = [
        name
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear)
        and module is not head
        and not any(name == one or name.endswith(f".{one}") for one in kept)
    ]
    if not found:
        raise SpecError(
            "spec.method.type", "QLoRA", f"{type(base).__name__} has no linear layers to quantize; use LoRA"
        )
    for name in found:
        _replace(base, name, Quantized(base.get_submodule(name), quantization))  # type: ignore[arg-type]


def dense(layer: nn.Module) -> nn.Linear:
    """A plain fp32 layer of the dequantized weight."""
    assert isinstance(layer, Quantized)
    plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    plain.weight = nn.Parameter(layer.dequantized(torch.float32), requires_grad=False)
    if layer.bias is not None:
        plain.bias = layer.bias
    return plain


def dequantize(model: nn.Module) -> None:
    """Every quantized layer becomes a plain one, in place; also those below an adapter."""
    for name in [name for name, module in model.named_modules() if isinstance(module, Quantized)]:
        _replace(model, name, dense(model.get_submodule(name)))


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, layer)
