"""What rank 0 writes down: one JSON line and one TensorBoard point per optimizer step, stored with the attempt."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from finetune_api import layout
from finetune_artifacts import ArtifactError, Store
from finetune_trainer.common import log
from finetune_trainer.common.clock import timestamp
from finetune_trainer.engine.evaluate import HeldOut
from finetune_trainer.engine.step import StepResult


def of_step(result: StepResult, seconds: float, epoch: float) -> dict[str, float | int | None]:
    """One line. `seconds`: of the whole step, with all that a loop does besides."""
    return {
        "loss": result.loss,
        **result.parts,
        **result.retention,
        "learningRate": result.rate,
        "gradNorm": result.grad_norm,
        "tokensPerSecond": round(result.tokens / max(seconds, 1e-9), 1),
        "stepSeconds": round(seconds, 4),
        "dataWaitPercent": round(100 * result.data_seconds / max(seconds, 1e-9), 2),
        **{f"{phase}Seconds": round(spent, 4) for phase, spent in result.split.items()},
        "skipped": int(result.skipped is not None) or None,
        "lossScale": result.loss_scale,
        "epoch": round(epoch, 4),
    }


def evaluated(found: HeldOut) -> dict[str, float | int | None]:
    """Of held-out records: `rewardMargin` becomes `evalRewardMargin`."""
    named = {f"eval{name[0].upper()}{name[1:]}": value for name, value in found.parts.items()}
    return {"evalLoss": found.loss, **named}


class Metrics:
    def __init__(self, folder: Path, run: Store, attempt: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._run, self._target = run, layout.attempt_dir(attempt)
        self._folder = folder
        self._board_dir = folder / "tensorboard"
        self._board_dir.mkdir(parents=True, exist_ok=True)
        self._board = SummaryWriter(str(self._board_dir))
        self._lines = (folder / "metrics.jsonl").open("a", buffering=1)

    def write(self, step: int, values: dict[str, float | int | None]) -> None:
        """Values that are not finite are left out: JSON has no word for them."""
        known: dict[str, Any] = {k: v for k, v in values.items() if v is not None and math.isfinite(v)}
        self._lines.write(json.dumps({"step": step, **known, "at": timestamp()}) + "\n")
        for name, value in known.items():
            self._board.add_scalar(name, value, step)

    def upload(self) -> None:
        """Best effort; called from the saving thread."""
        try:
            self._lines.flush()
            self._board.flush()
            self._run.put_bytes(f"{self._target}/metrics.jsonl", (self._folder / "metrics.jsonl").read_bytes())
            for path in sorted(self._board_dir.iterdir()):
                self._run.put_bytes(f"{self._target}/tensorboard/{path.name}", path.read_bytes())
        except (ArtifactError, OSError) as error:
            log.warning("metrics not stored", cause=str(error))

    def close(self) -> None:
        self._board.close()
        self._lines.close()
