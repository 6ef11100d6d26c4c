"""The method that a spec names."""

from __future__ import annotations

from finetune_api import method as api
from finetune_api.method import MethodType
from finetune_trainer.methods.base import Method
from finetune_trainer.methods.full import Full
from finetune_trainer.methods.lora import LowRank


def method_of(spec: api.Method) -> Method:
    if spec.type is MethodType.FULL_FINE_TUNE:
        return Full()
    return LowRank(spec.lora or api.LoRA())
