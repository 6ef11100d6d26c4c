"""What goes with what: one table of training methods, and the combinations that are refused, in words.

The API server, `finetune validate`, the publisher, preflight and the reference page all read it from here. A rule that
can be said in CEL is a rule of the CRD; what depends on the base model is preflight's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finetune_api.base import cel
from finetune_api.curriculum import CURRICULUM_RULES
from finetune_api.method import MUTATES_BASE, AdaLoRA, LoRA, Method, MethodType
from finetune_api.objective_rules import OBJECTIVE_RULES
from finetune_api.retention import RETENTION_RULES

FULL, MERGED, ADAPTER = "Full", "Merged", "Adapter"
SCORER = "Scorer"
"""A whole model with a head of one output (objective Reward)."""
CLASSIFIER = "Classifier"
"""A whole model with an output per label (objective Classification)."""
WRITES_NOTHING = (SCORER, CLASSIFIER)


@dataclass(frozen=True)
class Traits:
    """Of a method."""

    published: tuple[str, ...]
    """Kinds of artefact: the first is the usual one."""
    shards: bool = False
    """Proven with parameters cut over the GPUs (FSDP)."""
    packs: bool = True
    """Records may share rows."""
    not_served: str | None = None
    """Why vLLM cannot load its adapter."""
    rate: str = "2e-4"
    """training.learningRate when unset."""


_NO_SUCH = "vLLM loads LoRA adapters only"

METHODS: Mapping[MethodType, Traits] = {
    MethodType.FULL_FINE_TUNE: Traits((FULL,), shards=True, rate="2e-5"),
    MethodType.FREEZE: Traits((FULL,), rate="2e-5"),
    MethodType.LORA: Traits((MERGED, ADAPTER), shards=True),
    MethodType.QLORA: Traits(
        (MERGED, ADAPTER),
        not_served="vLLM would load it onto the unquantized base, which is another model than the one trained (QLoRA)",
    ),
    MethodType.DORA: Traits(
        (MERGED, ADAPTER), not_served="vLLM loads no adapters with a magnitude of their own (DoRA)"
    ),
    MethodType.ADA_LORA: Traits((MERGED, ADAPTER), rate="1e-3"),
    MethodType.IA3: Traits((MERGED, ADAPTER), not_served=_NO_SUCH, rate="5e-3"),
    MethodType.PREFIX: Traits((ADAPTER,), packs=False, not_served=_NO_SUCH, rate="1e-3"),
    MethodType.PROMPT: Traits((ADAPTER,), packs=False, not_served=_NO_SUCH, rate="1e-2"),
    MethodType.P_TUNING: Traits((ADAPTER,), packs=False, not_served=_NO_SUCH, rate="1e-3"),
    MethodType.P_TUNING_V2: Traits((ADAPTER,), packs=False, not_served=_NO_SUCH, rate="1e-2"),
    MethodType.BOTTLENECK: Traits((ADAPTER,), not_served=_NO_SUCH, rate="1e-3"),
}
SERVED_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""`vllm serve --max-lora-rank` takes one of these."""


def published_kind(method: Method, *, merge: bool) -> str:
    """An adapter that cannot be merged is published as one whatever `output.merge` says."""
    kinds = METHODS[method.type].published
    return kinds[0] if merge or len(kinds) == 1 else kinds[1]


def ddp_only(method: Method) -> str | None:
    """Why the method's parameters are not cut over GPUs; None where they may be."""
    if not METHODS[method.type].shards:
        return f"method {method.type} has been proven under DDP only"
    lora = method.lora or LoRA()
    if lora.init in MUTATES_BASE:
        return f"lora.init {lora.init} changes the base weights, which must be whole for it"
    return "lora.modulesToSave has been proven under DDP only" if lora.modules_to_save else None


def not_servable(method: Method) -> str | None:
    """Why vLLM cannot load the adapter that this method publishes without merging."""
    lora = published_lora(method)
    if (words := METHODS[method.type].not_served) is not None:
        return words
    if lora.modules_to_save:
        return "vLLM loads no adapters with whole modules (lora.modulesToSave)"
    rank = served_rank(lora)
    return (
        None if rank <= SERVED_RANKS[-1] else f"vLLM loads adapters up to rank {SERVED_RANKS[-1]}, this one has {rank}"
    )


def published_lora(method: Method) -> LoRA:
    """The largest that an unmerged adapter can be; AdaLoRA's is written as a plain one."""
    if method.type is MethodType.ADA_LORA:
        return LoRA(rank=(method.ada_lora or AdaLoRA()).initial_rank)
    return method.lora or LoRA()


def served_rank(lora: LoRA) -> int:
    """The largest rank in the published adapter; a start taken from the base doubles it."""
    rank = max([lora.rank, *lora.rank_pattern.values()])
    return 2 * rank if lora.init in MUTATES_BASE else rank


def _listed(types: list[MethodType]) -> str:
    return ", ".join(types[:-1]) + f" and {types[-1]}"


def _in(types: list[MethodType]) -> str:
    return "self.method.type in [" + ", ".join(f"'{t}'" for t in types) + "]"


_WHOLE = [t for t, traits in METHODS.items() if not traits.shards]
_UNPACKED = [t for t, traits in METHODS.items() if not traits.packs]

RULES = (
    cel(
        f"!has(self.method) || !({_in(_WHOLE)}) || self.parallelism.strategy in ['Auto', 'DDP']",
        f"methods {_listed(_WHOLE)} train under DDP only; set parallelism.strategy: DDP or Auto, or method.type: LoRA",
    ),
    cel(
        "!has(self.method) || !has(self.method.lora) || self.parallelism.strategy in ['Auto', 'DDP'] || "
        "!((has(self.method.lora.init) && self.method.lora.init in ['PiSSA', 'OLoRA']) || "
        "(has(self.method.lora.modulesToSave) && self.method.lora.modulesToSave.size() > 0))",
        "lora.init PiSSA and OLoRA and lora.modulesToSave need whole weights: DDP only; set parallelism.strategy: "
        "DDP or Auto, or leave them out",
    ),
    cel(
        f"!has(self.method) || !({_in(_UNPACKED)}) || !has(self.data.packing) || !self.data.packing",
        f"methods {_listed(_UNPACKED)} put something before each record, so records cannot share rows; remove "
        "data.packing: true, or set method.type: LoRA",
    ),
    cel(
        "!has(self.training.regularization) || !has(self.training.regularization.labelSmoothing) || "
        "!has(self.objective) || self.objective.type in ['SFT', 'Pretrain']",
        "label smoothing belongs to objective.type SFT and Pretrain; remove training.regularization.labelSmoothing",
        ".training.regularization",
    ),
    cel(
        "!(self.training.optimizer.type in ['AdamW8bit', 'Adafactor']) || self.parallelism.strategy in ['Auto', 'DDP']",
        "training.optimizer.type AdamW8bit and Adafactor keep state of whole matrices: DDP only; "
        "set parallelism.strategy: DDP or Auto, or optimizer.type AdamW or Lion",
    ),
    *OBJECTIVE_RULES,
    *RETENTION_RULES,
    *CURRICULUM_RULES,
)
"""Of a FineTuneJob's spec."""
