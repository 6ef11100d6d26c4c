"""N pods give N endings; an attempt has one outcome. This table is the whole decision.

Precedence, highest first: out of memory by the kernel · 64 66 72 73 · disruption seen on any pod (DisruptionTarget,
deletion, a lost node) · a kill nobody announced · 71 · 75 · 77 · 74 · 70 and unknown codes · 85 and 86 without
another cause. A survivor's NCCL error never hides what killed its neighbour.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_api.exitcodes import SIGKILLED, SIGTERMED, ExitCode, explain
from finetune_api.reports import LastWords
from finetune_api.status import Outcome
from finetune_operator.core.disruption import Notice


@dataclass(frozen=True)
class Ending:
    """How one pod ended. `exit_code` None: nobody saw it."""

    index: int
    node: str | None = None
    exit_code: int | None = None
    kernel_oom: bool = False
    notice: Notice | None = None
    node_lost: bool = False
    words: LastWords | None = None
    finished_at: str = ""


@dataclass(frozen=True)
class Verdict:
    outcome: Outcome
    message: str
    exit_code: int | None = None
    node: str | None = None
    """Of the pod that decided."""
    source: str | None = None
    """Of a disruption."""

    @property
    def disruption(self) -> bool:
        return self.outcome in (Outcome.PREEMPTED, Outcome.NODE_LOST)


_FINAL = {
    ExitCode.INVALID_SPEC: Outcome.INVALID_SPEC,
    ExitCode.DATA_INVALID: Outcome.DATA_INVALID,
    ExitCode.DIVERGED: Outcome.DIVERGED,
    ExitCode.NO_CHECKPOINT: Outcome.NO_CHECKPOINT,
    ExitCode.GATE_FAILED: Outcome.GATE_FAILED,
}
FINAL_OUTCOMES = frozenset(_FINAL.values())
"""Fail at once: trying again gives the same."""
_RETRIED = (
    (ExitCode.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY),
    (ExitCode.DEVICE, Outcome.DEVICE),
    (ExitCode.HANG, Outcome.HANG),
    (ExitCode.STORAGE, Outcome.STORAGE),
)
_STOPS = (ExitCode.STOPPED, ExitCode.STOPPED_UNSAVED)
_JOB_MESSAGE_CODE = re.compile(r"failed with exit code (\d+)")


def _verdict(outcome: Outcome, ending: Ending, fallback: str) -> Verdict:
    words = ending.words
    message = words.message if words is not None and words.message else fallback
    return Verdict(outcome, message, ending.exit_code, ending.node, ending.notice.source if ending.notice else None)


def outcome(endings: Sequence[Ending]) -> Verdict:
    """The outcome of an attempt none of whose pods runs any more.

    Expects at least one pod that did not end with 0, or none at all (the Job vanished).
    """
    ordered = sorted(endings, key=lambda e: (e.finished_at or "~", e.index))
    for ending in ordered:
        if ending.kernel_oom:
            return _verdict(
                Outcome.OUT_OF_MEMORY,
                ending,
                f"pod {ending.index} was killed for memory by the kernel; raise resources.limits.memory",
            )
    for ending in ordered:
        if ending.exit_code in _FINAL:
            code = ExitCode(ending.exit_code)
            return _verdict(_FINAL[code], ending, f"pod {ending.index} ended with {explain(code)}")
    for ending in ordered:
        if ending.node_lost:
            return Verdict(
                Outcome.NODE_LOST,
                f"node {ending.node} of pod {ending.index} became unreachable",
                ending.exit_code,
                ending.node,
                "NodeUnreachable",
            )
    for ending in ordered:
        if ending.notice is not None and ending.notice.hard:
            return Verdict(
                Outcome.PREEMPTED,
                f"pod {ending.index} on {ending.node} was disrupted ({ending.notice.source})",
                ending.exit_code,
                ending.node,
                ending.notice.source,
            )
    for ending in ordered:
        if ending.exit_code in (SIGKILLED, SIGTERMED):
            return _verdict(
                Outcome.ERROR,
                ending,
                f"pod {ending.index} on {ending.node} was killed with signal {ending.exit_code - 128}"
                " and nothing announced it",
            )
    for code, result in _RETRIED:
        for ending in ordered:
            if ending.exit_code == code:
                return _verdict(result, ending, f"pod {ending.index} ended with {explain(code)}")
    for ending in ordered:
        if ending.exit_code not in (None, 0, *_STOPS):
            return _verdict(Outcome.ERROR, ending, f"pod {ending.index} ended with {explain(ending.exit_code)}")
    for ending in ordered:
        if ending.exit_code in _STOPS:
            return _verdict(Outcome.PREEMPTED, ending, f"pod {ending.index} was asked to stop")
    return Verdict(Outcome.DELETED, "the pods vanished before anybody saw how they ended")


def outcome_from_job(message: str) -> Verdict | None:
    """What the Job's own failure message still says when every pod is gone (podFailurePolicy writes it)."""
    if "DisruptionTarget" in message:
        return Verdict(Outcome.PREEMPTED, message, source="DisruptionTarget")
    match = _JOB_MESSAGE_CODE.search(message)
    if match is None:
        return None
    return outcome([Ending(0, exit_code=int(match[1]))])
