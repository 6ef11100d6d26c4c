"""One small model of each type, with its own kernels and with Liger's. Run by test_engine_kernels.py, in a process
whose TRITON_INTERPRET=1 makes Triton compute on the CPU; prints one JSON object."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy
import torch
import triton.language as tl
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from triton.language.extra import libdevice
from triton.runtime import interpreter

from finetune_trainer.engine.kernels import TYPES, use_liger

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ROWS, LENGTH = 2, 8


def numbers_as_tensors(plain: Any) -> Any:
    """The interpreter leaves a float among a kernel's arguments as it is, and then cannot broadcast it. Compiled
    kernels get it in 32 bits."""

    def converted(argument: Any) -> Any:
        if isinstance(argument, float):
            handle = interpreter.TensorHandle(numpy.array([argument], numpy.float32), tl.float32)
            return tl.tensor(handle, tl.float32)
        return plain(argument)

    return converted


def by_numpy(function: Callable[[Any], Any]) -> Any:
    """In place of a function of CUDA's libdevice, which the interpreter does not have."""

    def computed(x: Any) -> Any:
        return tl.tensor(interpreter.TensorHandle(function(x.handle.data), x.handle.dtype), x.type)

    return computed


def learned(model: nn.Module, ids: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Loss, and the gradients of all parameters in one row."""
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def adapted(model: Any) -> Any:
    torch.manual_seed(1)
    return get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))


def forwards(model: nn.Module) -> dict[str, str]:
    return {name: type(module).__name__ + module.forward.__qualname__ for name, module in model.named_modules()}


def compare(kind: str) -> dict[str, Any]:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES))
    ids = torch.randint(3, SIZES["vocab_size"], (ROWS, LENGTH))
    fast = copy.deepcopy(model)
    own = [learned(copy.deepcopy(model), ids), learned(adapted(copy.deepcopy(model)), ids)]
    use_liger(fast)
    found = [learned(copy.deepcopy(fast), ids), learned(adapted(copy.deepcopy(fast)), ids)]
    before, after = forwards(model), forwards(fast)
    return {
        "losses": [abs(a - b) for (a, _), (b, _) in zip(found, own, strict=True)],
        "gradients": [((a - b).norm() / b.norm()).item() for (_, a), (_, b) in zip(found, own, strict=True)],
        "changed": sorted(name for name in before if before[name] != after[name]),
    }


if __name__ == "__main__":
    libdevice.rsqrt, libdevice.tanh = by_numpy(lambda x: 1 / numpy.sqrt(x)), by_numpy(numpy.tanh)
    interpreter._implicit_cvt = numbers_as_tensors(interpreter._implicit_cvt)
    print(json.dumps({kind: compare(kind) for kind in TYPES}))
