"""A whole copy of the last finished step in host memory, for when training cannot finish another one.

An agreed stop needs all ranks. When one of them hangs or is gone, the others wait in a collective, mid-step, and what
is on their devices is neither the last step nor the next. An adapter with its moments is small, so rank 0 keeps two
copies in turn: one is always whole. It is committed when a peer is lost, and when a stop's deadline comes near while
training stands still; the run then loses nothing but the unfinished step.

Kept for adapters only, where rank 0 holds all of it and has somebody to wait for. On a GPU the copy goes to pinned
memory behind the next step's back.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import MethodType
from finetune_api.reports import CheckpointReport
from finetune_artifacts import ArtifactError
from finetune_trainer.checkpoint.held import Held
from finetune_trainer.checkpoint.snapshot import Position, Snapshot
from finetune_trainer.common import log
from finetune_trainer.common.channel import Channel, StopRequest
from finetune_trainer.common.clock import monotonic
from finetune_trainer.common.errors import RunError

POLL_SECONDS = 0.2
LEAST_RESERVE = 3.0
"""Before the deadline, at least this is kept for the commit; at most half of what there was."""


@dataclass
class _Copy:
    position: Position | None = None
    trainable: dict[str, torch.Tensor] = field(default_factory=dict)
    optimizer: dict[str, torch.Tensor] = field(default_factory=dict)
    done: Any = None
    """A CUDA event behind the last copy; None on a CPU."""

    def fill(self, position: Position, held: Mapping[str, Held]) -> None:
        self.position = None
        cuda = False
        for name, piece in held.items():
            cuda = _into(self.trainable, name, piece.local, piece.shape) or cuda
            for key, value in piece.state.items():
                cuda = _into(self.optimizer, f"{name}.{key}", value, piece.shape) or cuda
        if cuda:
            event: Any = torch.cuda.Event
            self.done = self.done or event()
            self.done.record()
        self.position = position

    @property
    def whole(self) -> bool:
        return self.position is not None and (self.done is None or bool(self.done.query()))


def _into(copies: dict[str, torch.Tensor], name: str, live: torch.Tensor, shape: tuple[int, ...]) -> bool:
    """True when the copy is only under way."""
    source = live.detach().reshape(shape if live.ndim else ())
    if name not in copies:
        copies[name] = torch.empty(source.shape, dtype=source.dtype, pin_memory=source.is_cuda)
    copies[name].copy_(source, non_blocking=source.is_cuda)
    return source.is_cuda


def wanted(spec: FineTuneJobSpec, world_size: int, *, spread: bool) -> bool:
    return world_size > 1 and not spread and spec.method.type is not MethodType.FULL_FINE_TUNE


class Lifeboat:
    """Of rank 0. `keep` and `stand_down` are the training thread's, the watch has a thread of its own."""

    def __init__(self, channel: Channel, save: Callable[[Snapshot], CheckpointReport], committed_step: int) -> None:
        self._channel, self._save, self._committed = channel, save, committed_step
        self._lock = threading.Lock()
        self._copies = (_Copy(), _Copy())
        self._next = 0
        self._needed = True
        self.commit_seconds = 0.0
        """Of the last checkpoint."""

    def watch(self) -> None:
        threading.Thread(target=self._watch, name="lifeboat", daemon=True).start()

    def keep(self, position: Position, held: Mapping[str, Held]) -> None:
        """After a finished step. Does not return while a rescue is under way: it ends the process."""
        with self._lock:
            self._copies[self._next].fill(position, held)
            self._next = 1 - self._next

    def committed(self, report: CheckpointReport) -> None:
        self._committed, self.commit_seconds = max(self._committed, report.step), report.seconds

    def stand_down(self) -> None:
        """All ranks have agreed; the ordinary way out is taken."""
        with self._lock:
            self._needed = False

    def rescue(self) -> int | None:
        """Commits the newest whole copy; its step, or None when there is none or it cannot be stored."""
        with self._lock:
            if not self._needed:
                return None
            whole = [copy for copy in self._copies if copy.whole]
            newest = max(whole, key=lambda copy: copy.position.step if copy.position else 0, default=None)
            if newest is None or newest.position is None:
                return None
            step = newest.position.step
            if step <= self._committed:
                return step
            log.warning("training stands still; saving the last finished step", step=step)
            try:
                self._save(Snapshot(newest.position, newest.trainable, newest.optimizer, agreed_at=monotonic()))
            except (RunError, ArtifactError, OSError) as error:
                log.warning("the last finished step could not be saved", step=step, cause=str(error))
                return None
            self._needed = False
            return step

    def _watch(self) -> None:
        while self._needed:
            stop = self._channel.stop_requested()
            if stop and self._wait_until(self._latest(stop)) and self.rescue() is not None:
                os._exit(ExitCode.STOPPED)
            if stop:
                return
            threading.Event().wait(POLL_SECONDS)

    def _latest(self, stop: StopRequest) -> float:
        left = stop.deadline - monotonic()
        return stop.deadline - min(max(LEAST_RESERVE, 2 * self.commit_seconds), left / 2)

    def _wait_until(self, moment: float) -> bool:
        """False when the ordinary way out was taken meanwhile."""
        while self._needed and monotonic() < moment:
            threading.Event().wait(POLL_SECONDS)
        return self._needed
