"""Asking an engine until it answers or there is reason not to: what may pass is waited for, what repeats is a verdict.

The candidate is judged by how it fails: nobody there may be a pod that restarts, so it is waited for; silence and
failures that repeat are its own. Stable is never judged, only needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from finetune_api.exitcodes import ExitCode
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError
from finetune_trainer.serve.engine import Away, Broken, Engine, EngineError, Refused, Silent
from finetune_trainer.serve.patience import Patience
from finetune_trainer.serve.reasons import Reason

BROKEN_TRIES = 3
SILENT_TRIES = 2
BASE_S = 30.0
SECONDS_PER_TOKEN = 0.5
T = TypeVar("T")


class Asking:
    """One engine with the patience that all questions of this check share."""

    def __init__(self, engine: Engine, patience: Patience, *, candidate: bool) -> None:
        self.engine, self.patience, self.candidate = engine, patience, candidate
        self.who = f"the {'candidate' if candidate else 'stable revision'}'s engine at {engine.url}"

    def __call__(self, question: Callable[[Engine, float], T], *, tokens: int = 1) -> T:
        """`question` gets the engine and a timeout. Raises RunError, and Refused when the engine refuses it."""
        attempt, failures = 0, 0
        while True:
            left = self.patience.left
            if left <= 0:
                raise self._time_is_over()
            timeout = min(BASE_S + SECONDS_PER_TOKEN * tokens, left)
            try:
                return question(self.engine, timeout)
            except Refused:
                raise
            except EngineError as error:
                away = isinstance(error, Away)
                if self.patience.left <= 0 and not away:
                    raise self._time_is_over() from None
                failures += not away
                tries = SILENT_TRIES if isinstance(error, Silent) else BROKEN_TRIES
                if not away and failures >= tries:
                    raise self._gave_up(f"{failures} times in a row", error) from None
                log.warning(f"{self.who} {error}; it is asked again", attempt=attempt + 1)
                if not self.patience.pause(attempt):
                    raise self._gave_up(f"for {self.patience.seconds:.0f} s", error) from None
            attempt += 1

    def _time_is_over(self) -> RunError:
        words = (
            f"the check did not end within {self.patience.seconds:.0f} s; the last to be asked was {self.who}. Lower "
            "the limit or maxTokens of rollout.analysis.quality, or see why answers take so long"
        )
        if self.candidate:
            return RunError(ExitCode.GATE_FAILED, words, reason=Reason.CHECK_TIMEOUT)
        return RunError(ExitCode.WAITING, f"{words}. The check is made again", reason=Reason.STABLE_UNREACHABLE)

    def _gave_up(self, how: str, error: EngineError) -> RunError:
        words = f"{self.who} {error} ({how})"
        if not self.candidate:
            advice = "nothing can be compared with it; see to the stable revision first. The check is made again"
            return RunError(ExitCode.WAITING, f"{words}; {advice}", reason=Reason.STABLE_UNREACHABLE)
        if isinstance(error, Broken | Silent):
            advice = "look at the candidate's log; this revision gets no traffic"
            return RunError(ExitCode.GATE_FAILED, f"{words}; {advice}", reason=Reason.VERIFY_FAILED)
        advice = "are its pods ready, and does the network policy let this pod in? The check is made again"
        return RunError(ExitCode.WAITING, f"{words}; {advice}", reason=Reason.ENGINE_UNREACHABLE)
