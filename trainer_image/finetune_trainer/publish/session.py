"""One publish try as its stages share it: where it stands, what was measured, and its report."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import GateResult, MetricValue
from finetune_api.reports import PublishReport
from finetune_api.runconfig import PUBLISH_DIR, RunConfig
from finetune_trainer.common import log
from finetune_trainer.common.clock import monotonic, timestamp
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.places import Places
from finetune_trainer.publish.volume import Volume

_PROGRESS_EVERY = 5.0


@dataclass
class Session:
    config: RunConfig
    places: Places
    stage: str = "Starting"
    metrics: dict[str, MetricValue] = field(default_factory=dict)
    gate: list[GateResult] = field(default_factory=list)

    @property
    def volume(self) -> Volume:
        return Volume(self.places.scratch / PUBLISH_DIR)

    def enter(self, stage: str) -> None:
        self.stage = stage
        log.event("stage", stage=stage)

    def report(self, code: ExitCode, reason: str, message: str, **more: Any) -> PublishReport:
        return PublishReport(
            exit_code=int(code),
            reason=reason,
            message=message,
            stage=self.stage,
            metrics=self.metrics,
            gate=self.gate,
            at=timestamp(),
            **more,
        )

    def failed(self, error: Exception) -> PublishReport:
        from finetune_trainer.engine.failures import classify

        failure = classify(error, started=True)
        bug = failure.code is ExitCode.FAILED and not isinstance(error, RunError)
        return self.report(
            failure.code,
            failure.reason,
            failure.message,
            traceback="".join(traceback.format_exception(error)) if bug else None,
        )

    def progress(self) -> Callable[[str, int, int], None]:
        """A function that logs (what, done, all), at most every 5 s."""
        last = [monotonic()]

        def tell(what: str, done: int, total: int) -> None:
            if done == total or monotonic() - last[0] >= _PROGRESS_EVERY:
                last[0] = monotonic()
                log.event("progress", what=what, done=done, total=total)

        return tell
