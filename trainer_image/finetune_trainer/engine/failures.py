"""From an exception of a rank to its exit code: what the operator decides on.

A rank whose peer has died sees a broken connection. That is news, not a cause: it ends as `PeerLost` with the
weakest code, so that a survivor never masks the rank that failed first.
"""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.exitcodes import MEANINGS, ExitCode, reason
from finetune_artifacts import ArtifactError
from finetune_trainer.common.errors import RunError

_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "std::bad_alloc")
_DEVICE = ("cuda error", "cublas", "cudnn", "device-side assert", "ecc error", "hip error")
_PEER = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "gloo",
    "nccl",
    "process group",
    "connection refused",
)
_DIST_ERRORS = {"DistBackendError", "DistNetworkError", "DistStoreError", "DistError", "DistQueueEmptyError"}


@dataclass(frozen=True)
class Failure:
    code: ExitCode
    reason: str
    message: str
    secondary: bool = False


def classify(error: BaseException, *, started: bool) -> Failure:
    """`started`: the process group had formed and passed its self-test."""
    if isinstance(error, RunError):
        return Failure(error.code, error.reason, error.message)
    text = str(error).lower()
    if isinstance(error, MemoryError) or _named(error, "OutOfMemoryError") or any(m in text for m in _MEMORY):
        return Failure(
            ExitCode.OUT_OF_MEMORY,
            "OutOfMemory",
            f"out of memory: {_first_line(error)}; {MEANINGS[ExitCode.OUT_OF_MEMORY].remedy}",
        )
    if isinstance(error, ArtifactError):
        return Failure(ExitCode.STORAGE, "Storage", str(error))
    if any(_named(error, name) for name in _DIST_ERRORS) or (
        isinstance(error, RuntimeError) and any(m in text for m in _PEER)
    ):
        if not started:
            return Failure(ExitCode.DEVICE, "Rendezvous", f"the processes could not connect: {_first_line(error)}")
        return Failure(ExitCode.FAILED, "PeerLost", f"another rank is gone: {_first_line(error)}", secondary=True)
    if _named(error, "AcceleratorError") or any(m in text for m in _DEVICE):
        return Failure(ExitCode.DEVICE, "Device", f"the device failed: {_first_line(error)}")
    if isinstance(error, OSError):
        return Failure(ExitCode.STORAGE, "Storage", f"the pod's own file system: {_first_line(error)}")
    return Failure(ExitCode.FAILED, reason(ExitCode.FAILED), f"{type(error).__name__}: {_first_line(error)}")


def _named(error: BaseException, name: str) -> bool:
    return any(cls.__name__ == name for cls in type(error).__mro__)


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.split(" This is typically caused")[0][:400]
