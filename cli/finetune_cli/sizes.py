"""How many GPUs a model of a usual size needs, by the estimate that preflight makes of every job.

The reference page is written from it. Shapes are those that the models' own config.json give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.reports import Estimate
from finetune_trainer.engine.plan import plan_batches
from finetune_trainer.model.estimate.judge import judge
from finetune_trainer.model.headers import TensorInfo
from finetune_trainer.model.inspect import ModelInfo

LENGTH = 4096
GLOBAL_BATCH = 64
COUNTS = (1, 2, 4, 8)
"""GPUs of one node."""
GPUS: Mapping[str, str] = {
    "L4 24 GB": "NVIDIA-L4",
    "A100 40 GB": "NVIDIA-A100-SXM4-40GB",
    "A100 80 GB": "NVIDIA-A100-SXM4-80GB",
    "H100 80 GB": "NVIDIA-H100-80GB-HBM3",
    "H200 141 GB": "NVIDIA-H200",
}
"""The label that GPU feature discovery puts on a node, by the name people use."""
METHODS: Mapping[str, Mapping[str, Any]] = {
    "QLoRA": {"type": "QLoRA"},
    "LoRA": {"type": "LoRA"},
    "FullFineTune": {"type": "FullFineTune"},
}
_ROWS = 10_000


@dataclass(frozen=True)
class Shape:
    hidden: int
    layers: int
    heads: int
    key_heads: int
    head: int
    inner: int
    vocabulary: int
    tied: bool = False
    biased: bool = False
    """Of queries, keys and values."""

    def model(self) -> ModelInfo:
        """As its headers would be read."""
        config = {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_heads,
            "head_dim": self.head,
            "intermediate_size": self.inner,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied,
        }
        return ModelInfo(config, "LlamaForCausalLM", tuple(self._tensors()), True)

    def _tensors(self) -> Iterator[TensorInfo]:
        for name in ("model.embed_tokens", *(() if self.tied else ("lm_head",))):
            yield TensorInfo(f"{name}.weight", "BF16", (self.vocabulary, self.hidden))
        yield TensorInfo("model.norm.weight", "BF16", (self.hidden,))
        asked, looked_up = self.heads * self.head, self.key_heads * self.head
        into = {"q_proj": asked, "k_proj": looked_up, "v_proj": looked_up}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}"
            for name, out in into.items():
                yield TensorInfo(f"{prefix}.self_attn.{name}.weight", "BF16", (out, self.hidden))
                if self.biased:
                    yield TensorInfo(f"{prefix}.self_attn.{name}.bias", "BF16", (out,))
            yield TensorInfo(f"{prefix}.self_attn.o_proj.weight", "BF16", (self.hidden, asked))
            for name in ("gate_proj", "up_proj"):
                yield TensorInfo(f"{prefix}.mlp.{name}.weight", "BF16", (self.inner, self.hidden))
            yield TensorInfo(f"{prefix}.mlp.down_proj.weight", "BF16", (self.hidden, self.inner))
            for name in ("input_layernorm", "post_attention_layernorm"):
                yield TensorInfo(f"{prefix}.{name}.weight", "BF16", (self.hidden,))


SHAPES: Mapping[str, Shape] = {
    "Llama 3.2 1B": Shape(2048, 16, 32, 8, 64, 8192, 128256, tied=True),
    "Llama 3.1 8B": Shape(4096, 32, 32, 8, 128, 14336, 128256),
    "Qwen 2.5 32B": Shape(5120, 64, 40, 8, 128, 27648, 152064, biased=True),
    "Llama 3.1 70B": Shape(8192, 80, 64, 8, 128, 28672, 128256),
}


def smallest(shape: Shape, method: str, gpu: str) -> tuple[int, Estimate] | None:
    """The fewest of `COUNTS` that the job fits on, with its estimate; None where it fits on none."""
    most = estimated(shape, method, gpu, COUNTS[-1])
    if most.fits != "True":
        return None
    tried = ((count, estimated(shape, method, gpu, count)) for count in COUNTS[:-1])
    return next((found for found in tried if found[1].fits == "True"), (COUNTS[-1], most))


def estimated(shape: Shape, method: str, gpu: str, count: int) -> Estimate:
    """Of a job in bf16 whose rows are all `LENGTH` tokens long, one at a time on each GPU."""
    spec = FineTuneJobSpec.model_validate(
        {
            "model": {"uri": "s3://models/any"},
            "data": {"train": [{"uri": "s3://data/any"}], "maxLength": LENGTH},
            "method": METHODS[method],
            "training": {"precision": "BF16", "globalBatchSize": GLOBAL_BATCH, "microBatchSize": 1},
            "resources": {"gpusPerNode": count, "nodeSelector": {"nvidia.com/gpu.product": GPUS[gpu]}},
        }
    )
    return judge(shape.model(), spec, plan_batches(spec.training, _ROWS, count, on_gpu=True)).estimate
