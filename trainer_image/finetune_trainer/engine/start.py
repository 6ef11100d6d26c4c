"""What a loop begins with: where the run stands, and what only rank 0 has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetune_trainer.engine.cadence import Cadence
from finetune_trainer.engine.lifeboat import Lifeboat
from finetune_trainer.engine.metrics import Metrics


@dataclass
class Lead:
    """What only rank 0 has."""

    metrics: Metrics
    cadence: Cadence
    boat: Lifeboat | None = None


@dataclass(frozen=True)
class Start:
    step: int = 0
    tokens: int = 0
    loss: float | None = None
    guard: dict[str, Any] | None = None
    watch: dict[str, Any] | None = None
    loss_scale: dict[str, Any] | None = None
