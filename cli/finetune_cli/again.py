"""Whether an attempt that ended is followed by another: the cluster's rules, as far as one machine can follow them."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.duration import parse_duration
from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.reports import LastWords
from finetune_api.training import OnOOM

FINAL = frozenset(
    {
        ExitCode.INVALID_SPEC,
        ExitCode.DATA_INVALID,
        ExitCode.DIVERGED,
        ExitCode.NO_CHECKPOINT,
        ExitCode.STOPPED,
        ExitCode.STOPPED_UNSAVED,
    }
)
"""Trying again would end the same way, or the user asked for the end."""


@dataclass(frozen=True)
class Ended:
    code: int
    words: LastWords | None

    @property
    def committed(self) -> bool:
        """Whether the attempt got further than it began."""
        words = self.words
        return words is not None and words.checkpoint is not None and words.checkpoint.step > words.start_step


@dataclass(frozen=True)
class Again:
    delay: float
    micro_batch_size: int | None
    why: str


@dataclass(frozen=True)
class GiveUp:
    code: int
    why: str


def decide(spec: FineTuneJobSpec, ended: list[Ended], micro_batch_size: int | None) -> Again | GiveUp:
    """About the newest of the attempts of this command, which did not end with 0."""
    last, retry = ended[-1], spec.retry
    said = last.words.message if last.words else "it left no last words"
    if last.code in FINAL:
        return GiveUp(last.code, said)
    if len(ended) > retry.max_restarts:
        return GiveUp(last.code, f"{said} ({len(ended)} failures, spec.retry.maxRestarts is {retry.max_restarts})")
    stuck = 0
    for attempt in reversed(ended):
        if attempt.committed:
            break
        stuck += 1
    if stuck >= retry.no_progress_limit:
        return GiveUp(
            last.code,
            f"{said} ({stuck} attempts in a row committed no new step, spec.retry.noProgressLimit is "
            f"{retry.no_progress_limit})",
        )
    if last.code == ExitCode.OUT_OF_MEMORY:
        known = micro_batch_size or (last.words.micro_batch_size if last.words else None)
        if spec.training.on_oom is OnOOM.FAIL or known == 1:
            return GiveUp(last.code, f"{said} (micro-batch {known or 'unknown'})")
        if known is not None:
            return Again(0.0, known // 2, f"{said}; again with micro-batch {known // 2} at the same global batch")
    delay = min(parse_duration(retry.backoff.max), parse_duration(retry.backoff.initial) * 2.0 ** (len(ended) - 1))
    return Again(delay, micro_batch_size, said)
