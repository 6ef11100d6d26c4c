"""The header of an 8-billion-parameter Llama (3.1 8B's shape), without its weights."""

from finetune_trainer.model.headers import TensorInfo
from finetune_trainer.model.inspect import ModelInfo

_LINEAR = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (1024, 4096),
    "self_attn.v_proj": (1024, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (14336, 4096),
    "mlp.up_proj": (14336, 4096),
    "mlp.down_proj": (4096, 14336),
}
_NORMS = ("input_layernorm", "post_attention_layernorm")
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


def llama_8b() -> ModelInfo:
    tensors = [TensorInfo(f"{name}.weight", "BF16", (128256, 4096)) for name in ("model.embed_tokens", "lm_head")]
    tensors.append(TensorInfo("model.norm.weight", "BF16", (4096,)))
    for layer in range(32):
        prefix = f"model.layers.{layer}."
        tensors += [TensorInfo(f"{prefix}{name}.weight", "BF16", shape) for name, shape in _LINEAR.items()]
        tensors += [TensorInfo(f"{prefix}{name}.weight", "BF16", (4096,)) for name in _NORMS]
    return ModelInfo(_CONFIG, "LlamaForCausalLM", tuple(tensors), True)
