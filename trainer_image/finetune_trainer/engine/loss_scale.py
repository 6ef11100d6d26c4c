"""FP16's numbers end at 65,504 and at 6e-8, so small gradients vanish. Losses are multiplied by a large power of two
before the backward pass, and gradients divided by it before they are used (Micikevicius et al. 2018, "Mixed Precision
Training", section 3.2). A scale that makes gradients overflow is halved and that step left out; one that did well for
long is doubled.

torch's GradScaler does the same on one device. This one decides on the norm of the summed gradients, which is equal on
all ranks, so all leave out the same steps under every strategy; and it is two numbers, stored with the checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from finetune_api.training import Precision

FIRST = 2.0**16
GROWS_AFTER = 2000
"""Good steps in a row."""
MOST = 2.0**24


@dataclass
class Memory:
    scale: float
    good: int = 0
    """Steps since it last changed."""
    skipped: int = 0


class LossScale:
    """1, for ever, unless the precision is FP16."""

    def __init__(self, precision: Precision) -> None:
        self._memory = Memory(FIRST if precision is Precision.FP16 else 1.0)
        self._moves = precision is Precision.FP16

    @property
    def scale(self) -> float:
        return self._memory.scale

    @property
    def shown(self) -> float | None:
        """For the metrics; None where there is nothing to show."""
        return self.scale if self._moves else None

    @property
    def skipped(self) -> int:
        """Steps left out since the beginning of the run."""
        return self._memory.skipped

    def state(self) -> dict[str, Any] | None:
        return asdict(self._memory) if self._moves else None

    def restore(self, state: dict[str, Any] | None) -> None:
        """None: from a checkpoint of another precision, or from none."""
        if self._moves and state is not None:
            self._memory = Memory(**state)

    def judge(self, *, loss: float, norm: float) -> str | None:
        """In words why this step is left out; None to go on. What a smaller scale would not help is not judged here:
        a loss that is no number, or gradients that overflow unscaled."""
        memory = self._memory
        if not self._moves or not math.isfinite(loss):
            return None
        if not math.isfinite(norm):
            if memory.scale <= 1.0:
                return None
            memory.scale, memory.good, memory.skipped = memory.scale / 2, 0, memory.skipped + 1
            return f"FP16 overflow: gradients are not finite; losses are scaled by {memory.scale:g} from now on"
        memory.good += 1
        if memory.good >= GROWS_AFTER and memory.scale < MOST:
            memory.scale, memory.good = memory.scale * 2, 0
        return None
