"""What one process holds at its fullest moment, by part, from shapes alone.

The activations follow Korthikanti et al. 2022 ("Reducing Activation Recomputation in Large Transformer Models",
section 4): count what autograd keeps of each layer. Their layer is GPT's in 16 bits; this one is Llama's (RMSNorm,
grouped keys and values, SwiGLU) as transformers computes it under autocast, which keeps the residual stream in 32 bits
and a 16-bit copy for every linear layer. Attention scores are not counted: sdpa keeps none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import LoRA, MethodType
from finetune_api.objective import rows_per_record, scores
from finetune_api.parallelism import ZERO_STAGES
from finetune_api.retention import copies
from finetune_api.training import ActivationCheckpointing
from finetune_trainer.model.estimate import quantized, teacher, zero
from finetune_trainer.model.estimate.kept import kept_elements
from finetune_trainer.model.estimate.optimizer import state_bytes
from finetune_trainer.model.estimate.setting import Setting
from finetune_trainer.model.estimate.shapes import (
    Shape,
    linear_modules,
    outside_layers,
)
from finetune_trainer.model.estimate.trained import (
    LOW_RANK,
    frozen_parameters,
    half_at_rest,
    rank_of,
    remembered_parameters,
    trainable_parameters,
    trained_modules,
    trains_all,
)
from finetune_trainer.model.inspect import ModelInfo

FP32, HALF = 4, 2
_FRAGMENTATION = 0.05
"""Of everything on a GPU: what the allocator holds and cannot use."""
_GPU_RUNTIME = 700 << 20
"""CUDA context, kernels, cuBLAS and NCCL."""
_CPU_RUNTIME = 650 << 20
"""A Python process with torch and transformers."""


@dataclass(frozen=True)
class Parts:
    """Bytes of one process."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    buffers: int
    """Gathered layers, copies in the precision of computation, sums over ranks."""
    reserve: int
    """Runtime, and what fragmentation takes."""
    backward_first: bool
    """One micro-batch a step: no gradient is there yet when the activations are at their most."""

    @property
    def tensors(self) -> int:
        """At the fullest moment, without the reserve."""
        state = self.weights + self.optimizer + self.buffers
        held = self.activations + self.logits
        return state + (max(held, self.gradients) if self.backward_first else held + self.gradients)

    @property
    def total(self) -> int:
        return self.tensors + self.reserve


def memory(model: ModelInfo, spec: FineTuneJobSpec, setting: Setting) -> Parts:
    """Masters, gradients and AdamW's two moments are fp32: 16 bytes a trained parameter (Rajbhandari et al. 2019, ZeRO,
    section 3.1, less the half copy, which autocast makes anew). A frozen one rests in bf16 on a GPU, else in fp32;
    QLoRA's linear layers rest as codes and scales.
    """
    trained = trainable_parameters(model, spec)
    frozen = frozen_parameters(model, spec)
    on_gpu, bf16 = spec.resources.gpus_per_node > 0, spec.training.precision.halved
    resting = HALF if on_gpu and bf16 and half_at_rest(spec) else FP32
    share = setting.shards
    offloaded = setting.offload and on_gpu
    state = 0 if offloaded else 1
    positions = setting.micro_batch * setting.length * rows_per_record(spec)
    logits = 0 if scores(spec) else logit_bytes(model, positions=positions)
    logits += teacher.logit_bytes(model, spec, positions=positions)
    layers = Shape.of(model).layers
    activations = activation_bytes(model, spec, positions=positions, layers=layers)
    if setting.recompute is not ActivationCheckpointing.NONE:
        # One layer is computed again at a time, and by then the logits are gone.
        again = max(0, activation_bytes(model, spec, positions=positions, layers=1) - logits)
        kept = layers * Shape.of(model).hidden * _residual(spec)
        if setting.recompute is ActivationCheckpointing.SELECTIVE:
            kept += kept_elements(model, spec) * (HALF if bf16 else FP32)
        activations = positions * kept + again
    if setting.strategy in ZERO_STAGES:
        weights, gradients, optimizer = zero.state(model, spec, setting, resting=resting, offloaded=offloaded)
    else:
        weights = state * (FP32 * trained + resting * frozen - quantized.saved(model, spec, resting=resting)) // share
        gradients = state * FP32 * trained // share
        optimizer = state * state_bytes(model, spec) // share
    parts = Parts(
        weights=weights + teacher.weight_bytes(model, spec),
        gradients=gradients,
        optimizer=optimizer,
        activations=activations,
        logits=logits,
        buffers=_buffers(model, spec, setting, resting=resting),
        reserve=0,
        backward_first=setting.accumulation == 1,
    )
    runtime = _GPU_RUNTIME + int(_FRAGMENTATION * parts.tensors) if on_gpu else _CPU_RUNTIME
    return replace(parts, reserve=runtime)


def _buffers(model: ModelInfo, spec: FineTuneJobSpec, setting: Setting, *, resting: int) -> int:
    bf16 = spec.training.precision.halved
    trained = trainable_parameters(model, spec)
    again = setting.recompute is not ActivationCheckpointing.NONE
    cast = HALF * _cast_parameters(model, spec, recompute=again) if bf16 and resting == FP32 else 0
    cast += quantized.transient_bytes(model, spec)
    if setting.strategy in ZERO_STAGES:
        return zero.buffers(model, spec, setting, resting=resting) + cast
    if setting.shards > 1:
        compute = HALF if bf16 else FP32
        outside = outside_layers(model)
        layer = max(1, (model.parameters - outside) // Shape.of(model).layers)
        # Two layers gathered (one in use, one on its way), what lies outside them, one layer's gradients to be cut.
        return compute * (2 * layer + outside) + (FP32 * layer if trains_all(spec) else 0)
    remembered = FP32 * (copies(spec.retention, spec.method) * trained + remembered_parameters(model, spec))
    return (FP32 * trained if setting.world > 1 else 0) + cast + remembered


def _cast_parameters(model: ModelInfo, spec: FineTuneJobSpec, *, recompute: bool) -> int:
    """Weights of matrix products: autograd keeps the half copies that autocast makes of them, of one
    layer at a time where layers are computed again."""
    heads = [t for t in model.tensors if "lm_head" in t.name] or [t for t in model.tensors if "embed_tokens" in t.name]
    cast = {} if spec.method.type is MethodType.QLORA else linear_modules(model.tensors)
    layers = sum(out * into for out, into in cast.values())
    return layers // (Shape.of(model).layers if recompute else 1) + sum(t.elements for t in heads)


def _residual(spec: FineTuneJobSpec) -> int:
    """Bytes of an element of what goes from layer to layer: that of the embeddings, which rest in half for adapters."""
    half = spec.training.precision.halved and half_at_rest(spec) and spec.resources.gpus_per_node > 0
    return HALF if half else FP32


def activation_bytes(model: ModelInfo, spec: FineTuneJobSpec, *, positions: int, layers: int) -> int:
    """What autograd keeps of so many layers and of what stands around them, of this many tokens."""
    shape = Shape.of(model)
    bf16 = spec.training.precision.halved
    every = trains_all(spec)
    compute = HALF if bf16 else FP32
    residual = _residual(spec)
    # A norm keeps its input, and what it scales where the scale is trained.
    norms = 2 * shape.hidden * (residual + (FP32 if bf16 and residual == HALF else 0) + (residual if every else 0))
    # Queries, keys, values and the result.
    attention = compute * (2 * shape.queries + 2 * shape.keys)
    inner = compute * shape.inner * (3 if shape.gated else 1)
    inputs = sum(_kept_inputs(model, spec, shape, residual)) // max(1, shape.layers)
    return positions * (layers * (norms + attention + inner + inputs) + shape.hidden * FP32)


def _kept_inputs(model: ModelInfo, spec: FineTuneJobSpec, shape: Shape, residual: int) -> list[int]:
    """Per token, over all layers: the inputs that linear layers keep to compute the gradients of their weights."""
    bf16 = spec.training.precision.halved
    compute = HALF if bf16 else FP32
    targets = trained_modules(model, spec)
    kept: dict[tuple[str, str], int] = {}
    for name, (_, into) in targets.items():
        owner, _, last = name.rpartition(".")
        # q, k and v read one tensor, as do gate and up; autocast casts it for each of them.
        key = (owner, last if bf16 and residual != HALF else _SHARED.get(last, last))
        kept[key] = compute * into
    low_rank = spec.method.type in LOW_RANK
    ranks = [compute * rank_of(name, spec.method.lora or LoRA()) for name in targets] if low_rank else []
    return [*kept.values(), *ranks]


_SHARED = {"q_proj": "in", "k_proj": "in", "v_proj": "in", "gate_proj": "in", "up_proj": "in"}


def logit_bytes(model: ModelInfo, *, positions: int) -> int:
    """With a target at every position three tensors of fp32 stand there at once: first logits, the rows taken of them
    and their log-softmax; in the backward pass that log-softmax, its gradient and that of the logits."""
    return positions * Shape.of(model).vocabulary * 3 * FP32
