"""How much memory a rank will need, from shapes alone.

An estimate, said in advance, is worth more than an out-of-memory after an hour in the queue. It errs on the high side
by some 10 to 20 %: fragmentation and workspaces are covered by a margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_api.finetunejob import FineTuneJobSpec, LoRA, MethodType, Precision
from finetune_trainer.model.headers import TensorInfo
from finetune_trainer.model.inspect import ModelInfo

ALL_LINEAR = "AllLinear"
_NOT_LINEAR = ("embed", "wte.", "wpe.", "lm_head.", "norm.")
_MARGIN = 1.1
_RUNTIME = 700 << 20
"""CUDA context, kernels, NCCL buffers; on CPU the Python process with torch."""


@dataclass(frozen=True)
class MemoryEstimate:
    parameters: int
    trainable: int
    memory_per_rank: int
    """Bytes."""
    checkpoint: int
    """Bytes."""


def linear_modules(tensors: Sequence[TensorInfo]) -> dict[str, tuple[int, int]]:
    """(out, in) of each linear layer, by module name. Embeddings and the output head are no targets of AllLinear."""
    found = {}
    for tensor in tensors:
        module, _, kind = tensor.name.rpartition(".")
        if kind == "weight" and len(tensor.shape) == 2 and not any(part in tensor.name for part in _NOT_LINEAR):
            found[module] = (tensor.shape[0], tensor.shape[1])
    return found


def lora_targets(tensors: Sequence[TensorInfo], lora: LoRA) -> dict[str, tuple[int, int]]:
    """The linear layers that get an adapter, by peft's rule: the name itself, or its last parts."""
    linear = linear_modules(tensors)
    if lora.target_modules == [ALL_LINEAR]:
        return linear
    return {m: s for m, s in linear.items() if any(matches(m, wanted) for wanted in lora.target_modules)}


def matches(module: str, wanted: str) -> bool:
    return module == wanted or module.endswith(f".{wanted}")


def trainable_parameters(model: ModelInfo, spec: FineTuneJobSpec) -> int:
    """LoRA adds rank·(in + out) to each target (Hu et al. 2021, section 4)."""
    if spec.method.type is MethodType.FULL_FINE_TUNE:
        return model.parameters
    lora = spec.method.lora or LoRA()
    return sum(lora.rank * (out + into) for out, into in lora_targets(model.tensors, lora).values())


def activation_bytes(model: ModelInfo, *, micro_batch: int, length: int, half: bool) -> int:
    """Per layer 34·s·b·h bytes at 16 bits (Korthikanti et al. 2022, "Reducing Activation Recomputation", equation 2,
    without its attention-score term, which sdpa and flash attention do not keep); twice that at 32 bits. The logits of
    s·b·V positions stand there twice in fp32 (values and gradient).
    """
    hidden = model.number("hidden_size", "n_embd", "d_model") or 4096
    layers = model.number("num_hidden_layers", "n_layer", "num_layers") or 32
    vocabulary = model.number("vocab_size") or 32_000
    positions = micro_batch * length
    return positions * (layers * hidden * 34 * (1 if half else 2) + vocabulary * 8)


def estimate(model: ModelInfo, spec: FineTuneJobSpec, *, micro_batch: int) -> MemoryEstimate:
    """For one rank under DDP, where every rank holds everything.

    A trained parameter costs 16 bytes: fp32 weight, gradient and AdamW's two moments (Rajbhandari et al. 2019, ZeRO,
    section 3.1, with fp32 master weights and no separate half copy). A frozen one costs 2 bytes with BF16 on a GPU and
    4 otherwise.
    """
    trainable = trainable_parameters(model, spec)
    on_gpu, bf16 = spec.resources.gpus_per_node > 0, spec.training.precision is Precision.BF16
    frozen = 0 if spec.method.type is MethodType.FULL_FINE_TUNE else model.parameters
    weights = 16 * trainable + (2 if on_gpu and bf16 else 4) * frozen
    if bf16 and spec.method.type is MethodType.FULL_FINE_TUNE:
        weights += 2 * trainable  # autocast keeps a half copy of the weights within a step
    activations = activation_bytes(model, micro_batch=micro_batch, length=spec.data.max_length, half=bf16)
    return MemoryEstimate(
        parameters=model.parameters,
        trainable=trainable,
        memory_per_rank=int((weights + activations) * _MARGIN) + _RUNTIME,
        checkpoint=12 * trainable,
    )
