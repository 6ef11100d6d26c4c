"""`FineTuneJob.spec.retention`: what keeps a model from forgetting what it could before (catastrophic forgetting).

Each term is a loss of its own beside the objective's; replay is data. They can be had together.
"""

from __future__ import annotations

from typing import Annotated, Protocol

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, PositiveDecimal, cel, rules
from finetune_api.data import Data, DataSource
from finetune_api.method import MethodType
from finetune_api.objective import ObjectiveType

ANCHORED = (MethodType.FULL_FINE_TUNE, MethodType.FREEZE)
"""Methods whose trained weights are the base's own, so that their distance from the base means something."""
OBJECTIVES = (ObjectiveType.SFT, ObjectiveType.PRETRAIN)
"""Objectives that retention has been proven with."""


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


class Retention(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "has(self.l2sp) || has(self.replay)",
                "retention needs a term: set l2sp or replay, or remove the block",
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
    replay: Replay | None = None


class HasRetention(Protocol):
    @property
    def data(self) -> Data: ...

    @property
    def retention(self) -> Retention | None: ...


def all_sources(spec: HasRetention) -> list[DataSource]:
    """Every data source that a spec names: what a pod has to be able to read."""
    found: list[DataSource] = [*spec.data.train, *(spec.data.validation.sources or ())]
    if spec.retention and spec.retention.replay:
        found.append(spec.retention.replay.data)
    return found


def needs_whole(retention: Retention | None) -> str | None:
    """Why parameters are not cut over GPUs; None where they may be."""
    if retention is None or retention.l2sp is None:
        return None
    return "retention.l2sp has been proven under DDP only"


def copies(retention: Retention | None) -> int:
    """How many tensors as large as all trained weights are kept beside them."""
    return int(retention is not None and retention.l2sp is not None)


def _in(path: str, names: tuple[str, ...]) -> str:
    return f"{path} in [" + ", ".join(f"'{name}'" for name in names) + "]"


_SET = "!has(self.retention) || "
_TERMS = "!(has(self.retention.l2sp))"

RETENTION_RULES = (
    cel(
        f"{_SET}!has(self.objective) || {_in('self.objective.type', OBJECTIVES)}",
        f"retention has been proven with objectives {' and '.join(OBJECTIVES)}; remove it, or set one of these",
        ".retention",
    ),
    cel(
        f"{_SET}{_TERMS} || self.parallelism.strategy in ['Auto', 'DDP']",
        "retention.l2sp needs whole weights: DDP only; set parallelism.strategy: DDP or Auto, or use retention.replay",
        ".retention",
    ),
    cel(
        f"{_SET}!has(self.retention.l2sp) || !has(self.method) || {_in('self.method.type', ANCHORED)}",
        f"retention.l2sp holds the base's own weights, and methods other than {' and '.join(ANCHORED)} do not train "
        "them: remove it (training.optimizer.weightDecay holds an adapter near the base), or use retention.replay",
        ".retention",
    ),
)
"""Of a FineTuneJob's spec."""
