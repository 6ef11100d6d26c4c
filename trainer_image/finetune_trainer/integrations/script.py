"""What a training script may say to its launcher, and ask of it: four calls, standard library only.

For any torchrun script; for a Hugging Face Trainer `finetune_trainer.integrations.hf` makes them. Outside a custom
trainer's pod (`Script.here()` finds no channel) every call does nothing, so the script also runs by itself.
"""

from __future__ import annotations

import faulthandler
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_api.exitcodes import ExitCode
from finetune_trainer.common.channel import Heart
from finetune_trainer.common.clock import timestamp
from finetune_trainer.foreign.exchange import CHANNEL_ENV, RESUME_ENV, Exchange

POLL_SECONDS = 0.05


def resume_from() -> str | None:
    """The folder of the newest checkpoint whose manifest is complete and whose digests match; None at the beginning."""
    return os.environ.get(RESUME_ENV) or None


class Script:
    """One rank's side of the channel."""

    def __init__(self, exchange: Exchange | None, rank: int, local_rank: int) -> None:
        self.rank, self.local_rank, self._exchange = rank, local_rank, exchange
        self._heart: Heart | None = None
        self._told: dict[str, Any] = {}

    @classmethod
    def here(cls) -> Script:
        folder = os.environ.get(CHANNEL_ENV)
        exchange = Exchange(Path(folder)) if folder else None
        return cls(exchange, int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0")))

    def begin(self, *, step: int, total_steps: int = 0) -> None:
        """From now on this rank looks for stops, and its silence is a hang. Stacks are dumped on SIGUSR1."""
        if self._exchange is not None:
            faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
            self._heart = Heart(self._exchange, self.rank)
            self.report(step=step, startStep=step, totalSteps=total_steps, runningAt=timestamp(), stage="Training")

    def alive(self) -> None:
        """Progress of any kind."""
        if self._heart is not None:
            self._heart.beat()

    def report(self, **fields: Any) -> None:
        """Fields of `/progress` by their names there (step, totalSteps, epoch, loss, evalLoss, …); rank 0 of each node
        speaks. Numbers that are not finite are left out."""
        self.alive()
        self._told.update({k: v for k, v in fields.items() if not (isinstance(v, float) and not math.isfinite(v))})
        if self._exchange is not None and self.local_rank == 0:
            self._exchange.put_progress({**self._told, "updatedAt": timestamp()})

    def asked(self) -> tuple[bool, int]:
        """(whether a stop is wanted, how many checkpoints were asked for), as this node knows: let all ranks take the
        maximum of both at the same step before they act on it."""
        if self._exchange is None:
            return False, 0
        return self._exchange.stop_requested() is not None, self._exchange.saves_requested()

    def saved(self, step: int, folder: str | Path, **facts: Any) -> None:
        """Every rank calls it when all have written theirs to `folder` (after a barrier). The folder is kept by hard
        links, so the script may delete it; it is uploaded behind training's back, one checkpoint at a time."""
        if self._exchange is None:
            return
        exchange = self._exchange
        self._wait(exchange, lambda: all(int(before["step"]) >= step for before in exchange.saved()))
        if self.local_rank == 0:
            kept = exchange.folder.parent / "saving" / str(step)
            shutil.rmtree(kept, ignore_errors=True)
            if Path(folder).is_dir() or os.environ.get("GROUP_RANK", "0") == "0":
                shutil.copytree(folder, kept, copy_function=_link)
            else:  # this node's ranks had nothing to write
                kept.mkdir(parents=True)
            exchange.put_saved(step, {**{k: v for k, v in self._told.items() if k != "stage"}, **facts})

    def stopped(self, step: int) -> None:
        """Ends this process with 85 once the checkpoint of `step` is committed."""
        exchange = self._exchange
        if exchange is not None:
            self._wait(exchange, lambda: int((exchange.committed() or {}).get("step", -1)) >= step)
            sys.exit(int(ExitCode.STOPPED))

    def _wait(self, exchange: Exchange, done: Callable[[], bool]) -> None:
        """Alive as long as storage moves bytes."""
        sign = -1
        while not done():
            if exchange.storage_sign() != sign:
                sign = exchange.storage_sign()
                self.alive()
            time.sleep(POLL_SECONDS)


def _link(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)
