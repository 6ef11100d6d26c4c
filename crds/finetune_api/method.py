"""`FineTuneJob.spec.method`: which weights train."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from finetune_api.base import ApiModel, Decimal, cel, rules

ALL_LINEAR = "AllLinear"


class MethodType(StrEnum):
    FULL_FINE_TUNE = "FullFineTune"
    FREEZE = "Freeze"
    LORA = "LoRA"
    QLORA = "QLoRA"
    DORA = "DoRA"
    ADA_LORA = "AdaLoRA"
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
    LOFTQ = "LoftQ"


MUTATES_BASE = frozenset({Init.PISSA, Init.OLORA})
"""They take the adapter's start out of the base weights."""
STARTS_APART = MUTATES_BASE | {Init.LOFTQ}
"""With its adapter off, the model is not the one that training starts from."""


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
            "from the base weights, converge faster, and are published as an adapter of twice the rank if not merged. "
            "LoftQ (QLoRA only) starts from what quantizing took away."
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


class QuantType(StrEnum):
    NF4 = "NF4"
    FP4 = "FP4"
    INT8 = "INT8"


class Quantization(ApiModel):
    """How the frozen base is kept (Dettmers et al. 2023). Embeddings, norms and the output head stay as they are."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.type) || !has(self.bits) || (self.type == 'INT8') == (self.bits == 8)",
                "INT8 has 8 bits, NF4 and FP4 have 4; set bits and type alike, or leave one of them out",
            ),
            cel(
                "!has(self.doubleQuant) || !self.doubleQuant || !((has(self.type) && self.type == 'INT8') || "
                "(has(self.bits) && self.bits == 8))",
                "doubleQuant belongs to 4 bits, whose scales are many; remove it, or set bits: 4",
            ),
        )
    )

    bits: Annotated[Literal[4, 8], Field(description="4 when unset, unless type is INT8.")] | None = None
    type: (
        Annotated[QuantType, Field(description="NF4 when unset, with bits: 8 INT8 (one scale for each output).")] | None
    ) = None
    double_quant: (
        Annotated[bool, Field(description="The scales of blocks of 64 values are quantized, too. True when unset.")]
        | None
    ) = None

    @property
    def kind(self) -> QuantType:
        return self.type or (QuantType.INT8 if self.bits == 8 else QuantType.NF4)

    @property
    def doubled(self) -> bool:
        return self.kind is not QuantType.INT8 and self.double_quant is not False


class AdaLoRA(ApiModel):
    """Low-rank updates whose ranks are shared out while training: layers that matter keep more (Zhang et al. 2023)."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("self.targetRank <= self.initialRank", "targetRank is above initialRank: ranks only become fewer"),
            cel(
                "self.warmupPercent + self.settledPercent < 100",
                "warmupPercent and settledPercent leave no steps to share ranks out; their sum must be below 100",
            ),
        )
    )

    initial_rank: Annotated[int, Field(ge=1, le=1024, description="Of every layer, at first.")] = 12
    target_rank: Annotated[int, Field(ge=1, le=1024, description="At the end, as a mean over the layers.")] = 8
    alpha: Annotated[int, Field(ge=1, le=4096, description="Updates are scaled by alpha / initialRank.")] = 32
    dropout: Share = "0"
    target_modules: Targets = [ALL_LINEAR]
    warmup_percent: Annotated[int, Field(ge=0, le=99, description="Of the steps: every rank is kept.")] = 10
    settled_percent: Annotated[int, Field(ge=0, le=99, description="Of the steps, the last: ranks change no more.")] = (
        20
    )
    interval: Annotated[int, Field(ge=1, le=10_000, description="Steps between two times ranks are shared out.")] = 10
    orthogonality: Annotated[
        Decimal, Field(description="Weight of the term that holds singular vectors orthogonal; 0: none.")
    ] = "0.5"


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
    "lora": ("LoRA", "QLoRA", "DoRA"),
    "quantization": ("QLoRA",),
    "adaLora": ("AdaLoRA",),
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
                "!(self.type in ['QLoRA', 'DoRA']) || !has(self.lora) || !has(self.lora.init) || "
                "!(self.lora.init in ['PiSSA', 'OLoRA'])",
                "lora.init PiSSA and OLoRA belong to type LoRA; QLoRA and DoRA start from Default, Gaussian or "
                "Orthogonal, QLoRA also from LoftQ",
            ),
            cel(
                "self.type == 'QLoRA' || !has(self.lora) || !has(self.lora.init) || self.lora.init != 'LoftQ'",
                "lora.init LoftQ makes up for what quantizing takes away: set type QLoRA, or another init",
            ),
        )
    )

    type: MethodType
    freeze: Freeze | None = None
    lora: LoRA | None = None
    quantization: Quantization | None = None
    ada_lora: AdaLoRA | None = None
    ia3: IA3 | None = None
    prefix: Prefix | None = None
    prompt: Prompt | None = None
    p_tuning: PTuning | None = None
    p_tuning_v2: PTuningV2 | None = None
    bottleneck: Bottleneck | None = None
