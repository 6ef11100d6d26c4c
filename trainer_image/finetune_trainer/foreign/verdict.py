"""From how the ranks of a custom script ended to the pod's exit code and its words.

A script may end with one of our codes, and is believed. Otherwise the end of its traceback says whether memory, a
device or another rank was the cause; what a rank that only lost its peer says never masks the one that failed first.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_api.exitcodes import MEANINGS, ExitCode, reason

FINAL = frozenset({ExitCode.INVALID_SPEC, ExitCode.DATA_INVALID, ExitCode.DIVERGED, ExitCode.NO_CHECKPOINT})
"""Codes that a stop request does not explain away."""
PEER_LOST = "PeerLost"
_SPOKEN = frozenset(
    int(code)
    for code in ExitCode
    if code not in (ExitCode.DONE, ExitCode.WAITING, ExitCode.STOPPED, ExitCode.GATE_FAILED)
)
_TRACEBACK = "Traceback (most recent call last):"
_ERROR = re.compile(
    r"^(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)|[A-Za-z_][\w.]*\.[A-Z]\w*)\b.*", re.M
)
_MEMORY = ("outofmemoryerror", "out of memory", "can't allocate memory", "not enough memory", "std::bad_alloc")
_PEER = ("connection closed by peer", "connection reset by peer", "broken pipe", "connection refused")
_DEVICE = ("cuda error", "cublas", "cudnn", "device-side assert", "ecc error", "nccl", "distbackenderror")


@dataclass(frozen=True)
class Ended:
    """One rank that ended. `code` is negative for a signal."""

    rank: int
    code: int
    tail: str = ""


@dataclass(frozen=True)
class Verdict:
    code: int
    reason: str
    message: str
    rank: int | None = None
    traceback: str | None = None


def of(
    code: int, message: str, *, why: str | None = None, rank: int | None = None, trace: str | None = None
) -> Verdict:
    return Verdict(int(code), why or reason(code), message, rank, trace)


def verdict(ended: Sequence[Ended], *, stopping: bool, told: bool, committed: int | None, step: int) -> Verdict:
    """`ended`: in the order of ending; none that was only swept away. `told`: SIGTERM went to the ranks, because no
    rank had said that it looks for stops. `committed`: the step of the newest checkpoint this attempt committed since
    the stop was requested (since its beginning, without one)."""
    codes = {rank.code for rank in ended}
    saved = committed is not None
    if codes == {0} and not (stopping and told):
        return of(ExitCode.DONE, f"the script ended well at step {step}" if step else "the script ended well")
    if stopping and codes <= {0, int(ExitCode.STOPPED), -signal.SIGTERM, 128 + signal.SIGTERM}:
        if saved:
            return of(ExitCode.STOPPED, f"stopped on request; the checkpoint of step {committed} is committed")
        return of(
            ExitCode.STOPPED_UNSAVED,
            "stopped on request, and the script saved nothing: it does not look for stops (see the callback in "
            "finetune_trainer.integrations), or had not begun",
        )
    found = _failure(ended)
    if stopping and found.code not in FINAL:
        message = f"stopped while the gang went apart, nothing new was saved: {found.message}"
        return of(ExitCode.STOPPED_UNSAVED, message, rank=found.rank, trace=found.traceback)
    return found


def _failure(ended: Sequence[Ended]) -> Verdict:
    found = [_one(rank) for rank in ended if rank.code != 0]
    causes = [v for v in found if v.reason != PEER_LOST]
    return (causes or found)[0]


def _one(rank: Ended) -> Verdict:
    trace, error = last_traceback(rank.tail)
    said = f": {error}" if error else ""
    if rank.code < 0:
        name = signal.Signals(-rank.code).name
        hint = (
            " (the kernel's out-of-memory killer does this: compare resources.limits.memory)" if rank.code == -9 else ""
        )
        return of(128 - rank.code, f"rank {rank.rank} was killed by {name}{hint}{said}", rank=rank.rank, trace=trace)
    if rank.code == ExitCode.STOPPED:
        return of(ExitCode.FAILED, f"rank {rank.rank} ended with 85, but nobody had asked it to stop", rank=rank.rank)
    if rank.code in _SPOKEN:
        meaning = MEANINGS[rank.code].what
        return of(rank.code, f"rank {rank.rank}: {meaning} (its own exit code){said}", rank=rank.rank, trace=trace)
    text = (error or rank.tail[-2000:]).lower()
    if any(word in text for word in _MEMORY):
        advice = "lower the batch size in trainer.custom.args"
        return of(ExitCode.OUT_OF_MEMORY, f"rank {rank.rank}{said}; {advice}", rank=rank.rank, trace=trace)
    if any(word in text for word in _PEER):
        return of(ExitCode.FAILED, f"rank {rank.rank} lost another one{said}", why=PEER_LOST, trace=trace)
    if any(word in text for word in _DEVICE):
        return of(ExitCode.DEVICE, f"rank {rank.rank}{said}", rank=rank.rank, trace=trace)
    message = f"rank {rank.rank} ended with exit code {rank.code}{said or ' and left no traceback; see its log'}"
    return of(ExitCode.FAILED, message, rank=rank.rank, trace=trace)


def last_traceback(tail: str) -> tuple[str | None, str | None]:
    """(the last Python traceback in the text, its last line), as far as there is one."""
    start = tail.rfind(_TRACEBACK)
    if start < 0:
        return None, None
    text = tail[start:]
    match = _ERROR.search(text)
    if match is None:
        return text[-2048:], None
    return text[: match.end()], match[0].strip()[:600]
