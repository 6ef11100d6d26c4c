"""What the launcher's threads know together: the stage, the stop, the result of the work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from finetune_api.reports import Progress, Stage
from finetune_api.runconfig import RunConfig
from finetune_trainer.common import log
from finetune_trainer.common.channel import Channel, StopRequest, margin
from finetune_trainer.common.clock import monotonic, timestamp


class Board:
    def __init__(
        self, config: RunConfig, index: int, channel: Channel, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self.config, self.index, self.channel, self.clock = config, index, channel, clock
        self._lock = threading.RLock()
        self.changed = threading.Event()
        self._stage = Stage.FETCHING
        self._beat = clock()
        self._saves = 0
        self._stop: StopRequest | None = None
        self._finished: list[BaseException | None] = []
        self.on_stop: Callable[[str], None] = lambda _reason: None

    def beat(self, _amount: int = 0) -> None:
        """Progress of the launcher itself: bytes fetched, peers seen."""
        self._beat = self.clock()

    @property
    def last_beat(self) -> float:
        return self._beat

    @property
    def stage(self) -> Stage:
        """The ranks' word where they have spoken."""
        told = self.channel.progress().get("stage")
        return Stage(told) if told in set(Stage) else self._stage

    def enter(self, stage: Stage) -> None:
        self._stage = stage
        self.beat()

    @property
    def stop(self) -> StopRequest | None:
        return self._stop

    def request_stop(self, reason: str) -> bool:
        """False when a stop was already under way: any number of requests are one."""
        with self._lock:
            if self._stop is not None:
                return False
            grace = self.config.grace_seconds
            self._stop = StopRequest(timestamp(), self.clock() + grace - margin(grace), reason)
            self.channel.request_stop(self._stop)
        log.event("stop requested", reason=reason, grace_seconds=grace)
        self.changed.set()
        self.on_stop(reason)
        return True

    def request_save(self) -> None:
        with self._lock:
            self._saves += 1
            self.channel.request_save(self._saves)

    def finish(self, error: BaseException | None) -> None:
        """The work has ended, by itself or by an error."""
        self._finished.append(error)
        self.changed.set()

    @property
    def finished(self) -> bool:
        return bool(self._finished)

    @property
    def error(self) -> BaseException | None:
        return self._finished[0] if self._finished else None

    def progress(self) -> Progress:
        told: dict[str, Any] = self.channel.progress()
        own: dict[str, Any] = {"stage": self._stage, "updatedAt": timestamp()}
        fixed = {
            "attempt": self.config.attempt,
            "index": self.index,
            "stopRequestedAt": self._stop.requested_at if self._stop else None,
        }
        return Progress.model_validate(own | told | fixed)
