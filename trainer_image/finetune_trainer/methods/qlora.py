"""QLoRA: LoRA beside a frozen base in 4 or 8 bits (Dettmers et al. 2023).

The adapter has learned to correct what quantizing did to the base, so it is merged into the *dequantized* weights: the
base's own would be another model. For the same reason its adapter is loaded onto a base quantized alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from finetune_api.method import Init, LoRA, Quantization
from finetune_trainer.methods.loftq import linear_weights, make_up_for_quantizing
from finetune_trainer.methods.lora import LowRank
from finetune_trainer.methods.quantize import dequantize, quantize


class QuantizedLowRank(LowRank):
    def __init__(self, options: LoRA, quantization: Quantization) -> None:
        super().__init__(options)
        self._quantization = quantization

    def apply(self, base: nn.Module) -> nn.Module:
        weights = linear_weights(base) if self._options.init is Init.LOFTQ else None
        self._quantize(base)
        model = super().apply(base)
        if weights is not None:
            make_up_for_quantizing(model, weights)
        return model

    def merge(self, model: Any) -> nn.Module:
        dequantize(model)
        return super().merge(model)

    def load_adapter(self, base: nn.Module, folder: Path) -> nn.Module:
        self._quantize(base)
        return super().load_adapter(base, folder)

    def _quantize(self, base: nn.Module) -> None:
        quantize(base, self._quantization, whole=self._options.modules_to_save)
