"""From what is known at the end to the pod's exit code and its words. One function, no side effects."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetune_api.exitcodes import ExitCode, reason
from finetune_trainer.common.channel import RankError
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine.failures import classify
from finetune_trainer.launcher.gang import GangFailed

FINAL = frozenset({ExitCode.INVALID_SPEC, ExitCode.DATA_INVALID, ExitCode.DIVERGED, ExitCode.NO_CHECKPOINT})
"""Codes that a stop request does not explain away."""


@dataclass(frozen=True)
class Verdict:
    code: int
    reason: str
    message: str
    first_failing_rank: int | None = None
    traceback: str | None = None


def verdict(
    error: BaseException | None, errors: Sequence[RankError], *, stopping: bool, step: int, early: str | None = None
) -> Verdict:
    """`error`: how the launcher's work ended (None: all ranks returned 0). `errors`: what local ranks left behind.
    `early`: why training ended before its last planned step."""
    found = _verdict(error, errors, step)
    if found.code == ExitCode.DONE and early:
        return Verdict(found.code, found.reason, f"{found.message}, {early}")
    explained = found.code in (ExitCode.DONE, ExitCode.STOPPED, ExitCode.STOPPED_UNSAVED) or found.code in FINAL
    if stopping and not explained:
        return Verdict(
            ExitCode.STOPPED_UNSAVED,
            reason(ExitCode.STOPPED_UNSAVED),
            f"stopped while the gang went apart, nothing new was saved: {found.message}",
            found.first_failing_rank,
            found.traceback,
        )
    return found


def _verdict(error: BaseException | None, errors: Sequence[RankError], step: int) -> Verdict:
    if error is None:
        return Verdict(ExitCode.DONE, reason(ExitCode.DONE), f"training is complete at step {step}")
    if isinstance(error, GangFailed):
        return _gang(error.exit_codes, errors, step)
    failure = classify(error, started=False)
    code = ExitCode.STORAGE if failure.code is ExitCode.WAITING else failure.code
    return Verdict(
        code, failure.reason, failure.message, traceback=None if isinstance(error, RunError) else repr(error)
    )


def _gang(exit_codes: Mapping[int, int], errors: Sequence[RankError], step: int) -> Verdict:
    """`exit_codes` by rank in the order of failure; negative ones are signals."""
    for primary in errors:
        if not primary.secondary:
            return Verdict(
                primary.code,
                primary.reason,
                f"rank {primary.rank}: {primary.message}",
                primary.rank,
                primary.traceback,
            )
    if ExitCode.STOPPED in exit_codes.values() and not errors:
        return Verdict(
            ExitCode.STOPPED,
            reason(ExitCode.STOPPED),
            f"stopped on request; the checkpoint of step {step} is committed",
        )
    silent = {rank: code for rank, code in exit_codes.items() if rank not in {e.rank for e in errors}}
    for rank, code in silent.items():
        if code < 0:
            name = signal.Signals(-code).name
            hint = (
                " (the kernel's out-of-memory killer does this: compare resources.limits.memory)" if code == -9 else ""
            )
            return Verdict(128 - code, reason(128 - code), f"rank {rank} was killed by {name}{hint}", rank)
    for rank, code in silent.items():
        return Verdict(code, reason(code), f"rank {rank} ended with exit code {code} and left no words", rank)
    if errors:
        first = errors[0]
        return Verdict(first.code, first.reason, f"rank {first.rank}: {first.message}", traceback=first.traceback)
    return Verdict(ExitCode.FAILED, reason(ExitCode.FAILED), "the ranks failed and left no words")
