"""How a model is computed: what changes time and memory, and results by no more than rounding."""

from __future__ import annotations

from enum import StrEnum

from finetune_api.base import cel


class Attention(StrEnum):
    AUTO = "Auto"
    SDPA = "SDPA"
    EAGER = "Eager"
    FLASH_ATTENTION_2 = "FlashAttention2"
    FLEX = "Flex"


class Kernels(StrEnum):
    TORCH = "Torch"
    LIGER = "Liger"


_ON_CPU = "has(self.resources) && has(self.resources.gpusPerNode) && self.resources.gpusPerNode == 0"
_FLASH = "has(self.model.attention) && self.model.attention == 'FlashAttention2'"
_FLEX = "has(self.model.attention) && self.model.attention == 'Flex'"
ATTENTION_RULES = (
    cel(
        f"!({_FLASH} && has(self.training) && has(self.training.precision) && self.training.precision == 'FP32')",
        "FlashAttention2 computes in 16 bits; set training.precision: BF16, or model.attention: SDPA",
    ),
    cel(
        f"!(({_FLASH} || {_FLEX}) && {_ON_CPU})",
        "FlashAttention2 and Flex need a GPU; set model.attention: Auto, or resources.gpusPerNode",
    ),
)
"""Of FineTuneJob's spec."""

KERNEL_RULES = (
    cel(
        f"self.training.kernels != 'Liger' || !({_ON_CPU})",
        "Liger's kernels need a GPU; set training.kernels: Torch, or resources.gpusPerNode",
        ".training.kernels",
    ),
    cel(
        "!self.training.compile || self.training.kernels != 'Liger'",
        "compile makes kernels of its own; remove training.compile, or training.kernels: Liger",
        ".training.compile",
    ),
    cel(
        "!self.training.compile || self.training.activationCheckpointing != 'Selective'",
        "compile chooses itself what it keeps of a layer; set training.activationCheckpointing: Full, None or Auto",
        ".training.compile",
    ),
    cel(
        "!self.training.compile || !(self.parallelism.strategy in ['ZeRO1', 'ZeRO2', 'ZeRO3'])",
        "compile has not been proven under ZeRO; set parallelism.strategy: FSDP, DDP or Auto",
        ".training.compile",
    ),
)
"""Of FineTuneJob's spec, likewise."""

PRECISION_RULES = (
    cel(
        "self.training.precision != 'FP16' || !(self.parallelism.strategy in ['ZeRO1', 'ZeRO2', 'ZeRO3'])",
        "FP16's loss scale has not been proven under ZeRO; set parallelism.strategy: FSDP, DDP or Auto, "
        "or training.precision: BF16",
        ".training.precision",
    ),
    cel(
        "self.training.precision != 'FP16' || !has(self.method) || self.method.type != 'QLoRA'",
        "QLoRA's codes are made of values in BF16, which FP16 does not hold; set training.precision: BF16 or FP32, "
        "or method.type: LoRA",
        ".training.precision",
    ),
)
"""Of FineTuneJob's spec, likewise."""
