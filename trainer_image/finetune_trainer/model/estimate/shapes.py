"""What a model is made of, from its config.json and the headers of its weights: parameters, layers, widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_api.method import ALL_LINEAR, LoRA
from finetune_trainer.model.headers import TensorInfo
from finetune_trainer.model.inspect import ModelInfo

_NOT_LINEAR = ("embed", "wte.", "wpe.", "lm_head.", "norm.")


@dataclass(frozen=True)
class Shape:
    """Of a decoder. Widths are elements per token."""

    layers: int
    hidden: int
    queries: int
    keys: int
    """Of the keys alone; the values are as wide."""
    inner: int
    """The feed-forward's."""
    gated: bool
    """SwiGLU and its like: two projections in, one out."""
    vocabulary: int

    @staticmethod
    def of(model: ModelInfo) -> Shape:
        """Keys as Llama, GPT-2 and their likes spell them."""
        hidden = model.number("hidden_size", "n_embd", "d_model") or 4096
        heads = model.number("num_attention_heads", "n_head") or max(1, hidden // 128)
        width = model.number("head_dim") or hidden // heads
        return Shape(
            layers=model.number("num_hidden_layers", "n_layer", "num_layers") or 32,
            hidden=hidden,
            queries=heads * width,
            keys=(model.number("num_key_value_heads") or heads) * width,
            inner=model.number("intermediate_size", "n_inner") or 4 * hidden,
            gated=any("gate_proj" in t.name or "gate_up_proj" in t.name for t in model.tensors),
            vocabulary=model.number("vocab_size") or 32_000,
        )


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


def outside_layers(model: ModelInfo) -> int:
    """Parameters of embeddings and output head: FSDP gathers them as one piece."""
    return sum(t.elements for t in model.tensors if "embed" in t.name or "lm_head" in t.name or "wte" in t.name)
