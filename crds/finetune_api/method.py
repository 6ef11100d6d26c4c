"""`FineTuneJob.spec.method`: which weights train."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from finetune_api.base import ApiModel, cel, rules

ALL_LINEAR = "AllLinear"


class MethodType(StrEnum):
    FULL_FINE_TUNE = "FullFineTune"
    FREEZE = "Freeze"
    LORA = "LoRA"
    DORA = "DoRA"
    IA3 = "IA3"
    PREFIX = "Prefix"
    PROMPT = "Prompt"
    P_TUNING = "PTuning"
    P_TUNING_V2 = "PTuningV2"
    BOTTLENECK = "Bottleneck"


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    return text


ModuleName = Annotated[str, Field(min_length=1, max_length=128)]
Share = Annotated[str, Field(max_length=24, pattern=r"^0(\.[0-9]+)?$")]
Targets = Annotated[
    list[ModuleName],
    Field(min_length=1, max_length=64, description="AllLinear, or module names as the model spells them."),
]
Pattern = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_regular_expression)]
PerModule = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=128)], Annotated[int, Field(ge=1, le=4096)]],
    Field(max_length=64),
]


class Init(StrEnum):
    DEFAULT = "Default"
    GAUSSIAN = "Gaussian"
    ORTHOGONAL = "Orthogonal"
    PISSA = "PiSSA"
    OLORA = "OLoRA"


MUTATES_BASE = frozenset({Init.PISSA, Init.OLORA})
"""They take the adapter's start out of the base weights."""


class Freeze(ApiModel):
    """What is named trains, everything else stays as it is."""

    last_layers: Annotated[int, Field(ge=1, le=1000, description="The last so many decoder layers.")] | None = None
    trainable: Annotated[
        list[Pattern],
        Field(max_length=64, description="Regular expressions; a parameter trains whose name holds a match."),
    ] = []
    embeddings: bool = False
    lm_head: Annotated[bool, Field(description="The output head; where it is tied, the embeddings.")] = False


class LoRA(ApiModel):
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    alpha: Annotated[int, Field(ge=1, le=4096)] = 32
    dropout: Share = "0"
    target_modules: Targets = [ALL_LINEAR]
    rslora: bool = False
    init: Annotated[
        Init,
        Field(
            description="Default: the update starts at zero. PiSSA (principal singular vectors) and OLoRA (QR) start "
            "from the base weights, converge faster, and are published as an adapter of twice the rank if not merged."
        ),
    ] = Init.DEFAULT
    rank_pattern: Annotated[
        PerModule, Field(description="Another rank for modules whose name ends with (or matches) the key.")
    ] = {}
    alpha_pattern: Annotated[PerModule, Field(description="Another alpha, by the same rule.")] = {}
    modules_to_save: Annotated[
        list[ModuleName],
        Field(max_length=16, description="Modules that train whole, such as lm_head. vLLM loads no such adapter."),
    ] = []


class IA3(ApiModel):
    """Learned factors on keys, values and the feed-forward (Liu et al. 2022)."""

    target_modules: Annotated[list[ModuleName], Field(min_length=1, max_length=64)] = ["k_proj", "v_proj", "down_proj"]
    feedforward_modules: Annotated[
        list[ModuleName],
        Field(max_length=64, description="Of the target modules, those whose input is scaled, not their output."),
    ] = ["down_proj"]


class Prefix(ApiModel):
    """Trained keys and values before every layer's own (Li and Liang 2021)."""

    virtual_tokens: Annotated[int, Field(ge=1, le=4096)] = 20
    hidden_size: Annotated[int, Field(ge=1, le=65_536, description="Of the network the prefix comes out of.")] = 512


class Prompt(ApiModel):
    """Trained embeddings before the text (Lester et al. 2021)."""

    virtual_tokens: Annotated[int, Field(ge=1, le=4096)] = 20


class PTuning(ApiModel):
    """Trained embeddings before the text, from a small network (Liu et al. 2021)."""

    virtual_tokens: Annotated[int, Field(ge=1, le=4096)] = 20
    hidden_size: Annotated[int, Field(ge=1, le=65_536)] = 512


class PTuningV2(ApiModel):
    """Trained keys and values before every layer's own, without a network (Liu et al. 2022)."""

    virtual_tokens: Annotated[int, Field(ge=1, le=4096)] = 20


class BottleneckStyle(StrEnum):
    PFEIFFER = "Pfeiffer"
    HOULSBY = "Houlsby"


class Bottleneck(ApiModel):
    """Small networks within each layer: down, activation, up."""

    size: Annotated[int, Field(ge=1, le=65_536)] = 64
    style: Annotated[
        BottleneckStyle, Field(description="Houlsby: after attention and feed-forward. Pfeiffer: after the latter.")
    ] = BottleneckStyle.PFEIFFER


_BLOCKS = {
    "freeze": ("Freeze",),
    "lora": ("LoRA", "DoRA"),
    "ia3": ("IA3",),
    "prefix": ("Prefix",),
    "prompt": ("Prompt",),
    "pTuning": ("PTuning",),
    "pTuningV2": ("PTuningV2",),
    "bottleneck": ("Bottleneck",),
}


def _belongs(block: str, types: tuple[str, ...]) -> dict[str, str]:
    one = " || ".join(f"self.type == '{name}'" for name in types)
    words = f"type {types[0]}" if len(types) == 1 else f"types {', '.join(types[:-1])} and {types[-1]}"
    return cel(
        f"!has(self.{block}) || {one}", f"the {block} block belongs to {words}; remove it or set type: {types[0]}"
    )


class Method(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            *(_belongs(block, types) for block, types in _BLOCKS.items()),
            cel(
                "self.type != 'Freeze' || (has(self.freeze) && (has(self.freeze.lastLayers) || "
                "(has(self.freeze.trainable) && self.freeze.trainable.size() > 0) || "
                "(has(self.freeze.embeddings) && self.freeze.embeddings) || "
                "(has(self.freeze.lmHead) && self.freeze.lmHead)))",
                "nothing would train: set at least one of freeze.lastLayers, trainable, embeddings, lmHead",
            ),
            cel(
                "self.type != 'DoRA' || !has(self.lora) || !has(self.lora.init) || "
                "!(self.lora.init in ['PiSSA', 'OLoRA'])",
                "lora.init PiSSA and OLoRA belong to type LoRA; DoRA starts from Default, Gaussian or Orthogonal",
            ),
        )
    )

    type: MethodType
    freeze: Freeze | None = None
    lora: LoRA | None = None
    ia3: IA3 | None = None
    prefix: Prefix | None = None
    prompt: Prompt | None = None
    p_tuning: PTuning | None = None
    p_tuning_v2: PTuningV2 | None = None
    bottleneck: Bottleneck | None = None
