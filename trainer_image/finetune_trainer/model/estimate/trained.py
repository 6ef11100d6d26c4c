"""Which tensors a method trains, by shape, without torch: from the spec and the headers of the base model's weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from finetune_api import method as api
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import MUTATES_BASE, BottleneckStyle, LoRA, MethodType
from finetune_api.objective import foresees
from finetune_trainer.methods.select import free
from finetune_trainer.model.estimate.shapes import Shape, linear_modules, lora_targets, matches
from finetune_trainer.model.inspect import ModelInfo

Extent = tuple[int, ...]
"""The shape of a tensor."""
LOW_RANK = (MethodType.LORA, MethodType.QLORA, MethodType.DORA)


def trains_all(spec: FineTuneJobSpec) -> bool:
    return spec.method.type is MethodType.FULL_FINE_TUNE


def half_at_rest(spec: FineTuneJobSpec) -> bool:
    """Whether frozen weights may rest in half precision. What a start is taken out of would lose digits there."""
    return not trains_all(spec) and (spec.method.lora or LoRA()).init not in MUTATES_BASE


def trainable_parameters(model: ModelInfo, spec: FineTuneJobSpec) -> int:
    return sum(math.prod(extent) for extent in trained_extents(model, spec))


def frozen_parameters(model: ModelInfo, spec: FineTuneJobSpec) -> int:
    """Of the base; adapters are added to all of it."""
    whole = spec.method.type in (MethodType.FULL_FINE_TUNE, MethodType.FREEZE)
    return model.parameters - (sum(map(math.prod, _extents(model, spec.method))) if whole else 0)


def trained_extents(model: ModelInfo, spec: FineTuneJobSpec) -> list[Extent]:
    head: list[Extent] = [(1, Shape.of(model).hidden), (1,)] if foresees(spec) else []
    return [*_extents(model, spec.method), *head]


def trained_modules(model: ModelInfo, spec: FineTuneJobSpec) -> Mapping[str, Extent]:
    """(out, in) of linear layers that keep their input, because a gradient is taken with it."""
    method, linear = spec.method, linear_modules(model.tensors)
    if method.type in LOW_RANK:
        return lora_targets(model.tensors, method.lora or LoRA())
    if method.type is MethodType.ADA_LORA:
        return lora_targets(model.tensors, _as_lora(method))
    if method.type is MethodType.FREEZE:
        chosen = free([t.name for t in model.tensors], method.freeze or api.Freeze())
        return {name: extent for name, extent in linear.items() if f"{name}.weight" in chosen}
    if method.type is MethodType.IA3:
        wanted = (method.ia3 or api.IA3()).target_modules
        return {n: e for n, e in linear.items() if any(matches(n, one) for one in wanted)}
    return linear if trains_all(spec) else {}


def remembered_parameters(model: ModelInfo, spec: FineTuneJobSpec) -> int:
    """Numbers of fp32 that a method keeps beside parameters and optimizer, in checkpoints too: AdaLoRA smooths each
    trained parameter's sensitivity and its spread."""
    return 2 * trainable_parameters(model, spec) if spec.method.type is MethodType.ADA_LORA else 0


def _as_lora(method: api.Method) -> LoRA:
    options = method.ada_lora or api.AdaLoRA()
    return LoRA(rank=options.initial_rank, target_modules=options.target_modules)


def rank_of(module: str, lora: LoRA) -> int:
    """By peft's rule: the first key that the name matches, whole or from a dot on."""
    found = (rank for key, rank in lora.rank_pattern.items() if re.match(rf"(.*\.)?({key})$", module))
    return next(found, lora.rank)


def _extents(model: ModelInfo, method: api.Method) -> Iterator[Extent]:
    match method.type:
        case MethodType.FULL_FINE_TUNE:
            yield from (t.shape for t in model.tensors)
        case MethodType.FREEZE:
            chosen = free([t.name for t in model.tensors], method.freeze or api.Freeze())
            yield from (t.shape for t in model.tensors if t.name in chosen)
        case MethodType.LORA | MethodType.QLORA | MethodType.DORA:
            yield from _low_rank(model, method.lora or LoRA(), dora=method.type is MethodType.DORA)
        case MethodType.ADA_LORA:
            lora = _as_lora(method)
            yield from _low_rank(model, lora, dora=False)
            yield from ((lora.rank, 1) for _ in lora_targets(model.tensors, lora))
        case MethodType.IA3:
            ia3 = method.ia3 or api.IA3()
            for name, (out, into) in linear_modules(model.tensors).items():
                if any(matches(name, one) for one in ia3.target_modules):
                    inner = any(matches(name, one) for one in ia3.feedforward_modules)
                    yield (1, into) if inner else (out, 1)
        case MethodType.BOTTLENECK:
            yield from _bottleneck(model, method.bottleneck or api.Bottleneck())
        case _:
            yield from _prepended(model, method)


def _low_rank(model: ModelInfo, lora: LoRA, *, dora: bool) -> Iterator[Extent]:
    """rank·(in + out) for each target (Hu et al. 2021, section 4.1); DoRA adds a magnitude for each output."""
    for name, (out, into) in lora_targets(model.tensors, lora).items():
        rank = rank_of(name, lora)
        yield from ((rank, into), (out, rank))
        if dora:
            yield (out,)
    for tensor in model.tensors:
        module = tensor.name.rpartition(".")[0]
        if any(matches(module, one) for one in lora.modules_to_save):
            yield tensor.shape


def _bottleneck(model: ModelInfo, options: api.Bottleneck) -> Iterator[Extent]:
    shape = Shape.of(model)
    places = shape.layers * (2 if options.style is BottleneckStyle.HOULSBY else 1)
    for _ in range(places):
        yield from ((options.size, shape.hidden), (options.size,), (shape.hidden, options.size), (shape.hidden,))


def _prepended(model: ModelInfo, method: api.Method) -> Iterator[Extent]:
    """As peft's encoders are built."""
    shape = Shape.of(model)
    pairs = 2 * shape.layers * shape.keys
    if method.type is MethodType.PREFIX:
        prefix = method.prefix or api.Prefix()
        yield from ((prefix.virtual_tokens, shape.keys), (prefix.hidden_size, shape.keys), (prefix.hidden_size,))
        yield from ((pairs, prefix.hidden_size), (pairs,))
    elif method.type is MethodType.P_TUNING_V2:
        yield ((method.p_tuning_v2 or api.PTuningV2()).virtual_tokens, pairs)
    elif method.type is MethodType.P_TUNING:
        tuning = method.p_tuning or api.PTuning()
        inner, hidden = tuning.hidden_size, shape.hidden
        yield from ((tuning.virtual_tokens, hidden), (inner, hidden), (inner,), (inner, inner), (inner,))
        yield from ((hidden, inner), (hidden,))
    else:
        yield ((method.prompt or api.Prompt()).virtual_tokens, shape.hidden)
