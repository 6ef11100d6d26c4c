"""The method that a spec names."""

from __future__ import annotations

from finetune_api import method as api
from finetune_api.method import MethodType
from finetune_trainer.methods.adalora import Adaptive
from finetune_trainer.methods.base import Method
from finetune_trainer.methods.bottleneck import Bottlenecks
from finetune_trainer.methods.full import Frozen, Full
from finetune_trainer.methods.ia3 import Scaling
from finetune_trainer.methods.lora import LowRank
from finetune_trainer.methods.prompts import Prepended
from finetune_trainer.methods.qlora import QuantizedLowRank


def method_of(spec: api.Method) -> Method:
    match spec.type:
        case MethodType.FULL_FINE_TUNE:
            return Full()
        case MethodType.FREEZE:
            return Frozen(spec.freeze or api.Freeze())
        case MethodType.LORA | MethodType.DORA:
            return LowRank(spec.lora or api.LoRA(), dora=spec.type is MethodType.DORA)
        case MethodType.QLORA:
            return QuantizedLowRank(spec.lora or api.LoRA(), spec.quantization or api.Quantization())
        case MethodType.ADA_LORA:
            return Adaptive(spec.ada_lora or api.AdaLoRA())
        case MethodType.IA3:
            return Scaling(spec.ia3 or api.IA3())
        case MethodType.PREFIX:
            return Prepended(spec.prefix or api.Prefix())
        case MethodType.PROMPT:
            return Prepended(spec.prompt or api.Prompt())
        case MethodType.P_TUNING:
            return Prepended(spec.p_tuning or api.PTuning())
        case MethodType.P_TUNING_V2:
            return Prepended(spec.p_tuning_v2 or api.PTuningV2())
        case MethodType.BOTTLENECK:
            return Bottlenecks(spec.bottleneck or api.Bottleneck())
