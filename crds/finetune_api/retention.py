"""`FineTuneJob.spec.retention`: what keeps a model from forgetting what it could before (catastrophic forgetting).

Each term is a loss of its own beside the objective's; replay is data. They can be had together.
"""

from __future__ import annotations

from typing import Annotated, Protocol

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, PositiveDecimal, cel, rules
from finetune_api.data import Data, DataSource
from finetune_api.method import STARTS_APART, Method, MethodType
from finetune_api.objective import ObjectiveType

ANCHORED = (MethodType.FULL_FINE_TUNE, MethodType.FREEZE)
"""Methods whose trained weights are the base's own, so that their distance from the base means something."""
NO_BASE_INSIDE = (
    MethodType.PREFIX,
    MethodType.PROMPT,
    MethodType.P_TUNING,
    MethodType.P_TUNING_V2,
    MethodType.BOTTLENECK,
)
"""Methods beside ANCHORED whose model does not give the base's answers with its adapter turned off."""
OBJECTIVES = (ObjectiveType.SFT, ObjectiveType.PRETRAIN)
"""Objectives that retention has been proven with."""
KL_SHARE = 4
"""For klToBase, one row is read besides for so many rows of a global batch."""


class Replay(ApiModel):
    """Records of what the model is not to forget, mixed into the training records."""

    data: DataSource
    percent: Annotated[
        int,
        Field(
            ge=1,
            le=90,
            description="Of an epoch's training records. Which ones follows from their contents; where there are too "
            "few, they come several times.",
        ),
    ]


class KLToBase(ApiModel):
    """The model's predictions are held near the base's, on records of what it is not to forget."""

    weight: Annotated[PositiveDecimal, Field(description="Of the term beside the loss. 0.1 to 1 are common.")]
    data: Annotated[
        DataSource,
        Field(
            description="Each step reads a quarter as many rows of it as globalBatchSize says. Their answers say where "
            "predictions are compared, and are not learned."
        ),
    ]


class EWC(ApiModel):
    """Elastic weight consolidation: each weight is held near the base's as far as it matters to what is to be kept."""

    data: DataSource
    samples: Annotated[
        int, Field(ge=1, le=4096, description="Records of it, by which is measured what matters (Fisher information).")
    ] = 256
    lambda_: Annotated[
        PositiveDecimal,
        Field(
            alias="lambda",
            description="Of the term beside the loss: lambda / 2 times the sum of importance times squared distance. "
            "100 to 100000 are common; ewcLoss in the metrics says how much it adds.",
        ),
    ]


class Retention(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "has(self.l2sp) || has(self.klToBase) || has(self.ewc) || has(self.replay)",
                "retention needs a term: set l2sp, klToBase, ewc or replay, or remove the block",
            )
        )
    )

    l2sp: (
        Annotated[
            PositiveDecimal,
            Field(
                description="Adds l2sp / 2 times the squared distance of the trained weights from those of the base "
                "model (L2-SP). For FullFineTune and Freeze; 0.01 to 1 are common.",
            ),
        ]
        | None
    ) = Field(default=None, alias="l2sp")
    kl_to_base: KLToBase | None = Field(default=None, alias="klToBase")
    ewc: EWC | None = None
    replay: Replay | None = None


class HasRetention(Protocol):
    @property
    def data(self) -> Data: ...

    @property
    def retention(self) -> Retention | None: ...


def all_sources(spec: HasRetention) -> list[DataSource]:
    """Every data source that a spec names: what a pod has to be able to read."""
    found: list[DataSource] = [*spec.data.train, *(spec.data.validation.sources or ())]
    blocks = (spec.retention.replay, spec.retention.kl_to_base, spec.retention.ewc) if spec.retention else ()
    return found + [block.data for block in blocks if block]


def needs_whole(retention: Retention | None) -> str | None:
    """Why parameters are not cut over GPUs; None where they may be."""
    if retention is None or not (retention.l2sp or retention.kl_to_base or retention.ewc):
        return None
    return "retention has been proven under DDP only, except replay"


def holds_start(retention: Retention | None) -> bool:
    """Whether a term needs weights that are the base's own (ANCHORED)."""
    return retention is not None and (retention.l2sp is not None or retention.ewc is not None)


def copies(retention: Retention | None, method: Method) -> int:
    """How many tensors as large as all trained weights are kept beside them."""
    if retention is None or method.type not in ANCHORED:
        return 0
    kept = (holds_start(retention), retention.ewc is not None, retention.kl_to_base is not None)
    return sum(kept)


def _in(path: str, names: tuple[str, ...]) -> str:
    return f"{path} in [" + ", ".join(f"'{name}'" for name in names) + "]"


_SET = "!has(self.retention) || "
_TERMS = "!(has(self.retention.l2sp) || has(self.retention.klToBase) || has(self.retention.ewc))"
_KL = f"{_SET}!has(self.retention.klToBase) || "

RETENTION_RULES = (
    cel(
        f"{_SET}!has(self.objective) || {_in('self.objective.type', OBJECTIVES)}",
        f"retention has been proven with objectives {' and '.join(OBJECTIVES)}; remove it, or set one of these",
        ".retention",
    ),
    cel(
        f"{_SET}{_TERMS} || self.parallelism.strategy in ['Auto', 'DDP']",
        "retention needs whole weights, except replay: DDP only; set parallelism.strategy: DDP or Auto, or use "
        "retention.replay alone",
        ".retention",
    ),
    cel(
        f"{_KL}!has(self.method) || !({_in('self.method.type', NO_BASE_INSIDE)})",
        f"methods {', '.join(NO_BASE_INSIDE)} cannot be asked what the base says: remove retention.klToBase, use "
        "retention.replay, or set method.type: LoRA",
        ".retention",
    ),
    cel(
        f"{_KL}!has(self.method) || !has(self.method.lora) || !has(self.method.lora.init) || "
        f"!({_in('self.method.lora.init', tuple(sorted(STARTS_APART)))})",
        f"lora.init {' and '.join(sorted(STARTS_APART))} change the base that retention.klToBase compares with; remove "
        "lora.init, or use retention.replay",
        ".retention",
    ),
    cel(
        f"{_KL}!has(self.training.regularization) || !has(self.training.regularization.neftuneAlpha)",
        "NEFTune's noise would be told from the base's answers by retention.klToBase; remove "
        "training.regularization.neftuneAlpha",
        ".retention",
    ),
    cel(
        f"{_SET}!(has(self.retention.l2sp) || has(self.retention.ewc)) || !has(self.method) || "
        f"{_in('self.method.type', ANCHORED)}",
        f"retention.l2sp and ewc hold the base's own weights, and methods other than {' and '.join(ANCHORED)} do not "
        "train them: remove it (training.optimizer.weightDecay holds an adapter near the base), or use "
        "retention.klToBase or replay",
        ".retention",
    ),
)
"""Of a FineTuneJob's spec."""
