"""What a data-plane process says by the way it ends.

The operator decides from these numbers alone; they are part of the contract
with custom trainer images.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    DONE = 0
    INVALID_SPEC = 64
    DATA_INVALID = 66
    WAITING = 69
    """Preflight only: something that may still arrive (Secret, dataset, model, storage) is not there yet."""
    FAILED = 70
    OUT_OF_MEMORY = 71
    DIVERGED = 72
    NO_CHECKPOINT = 73
    STORAGE = 74
    DEVICE = 75
    GATE_FAILED = 76
    HANG = 77
    STOPPED = 85
    """Stopped on request; the checkpoint of the agreed step is committed."""
    STOPPED_UNSAVED = 86
    """Stopped (deadline or a newer attempt's fence); nothing new was committed."""


SIGKILLED = 137
SIGTERMED = 143


def reason(code: int) -> str:
    """The CamelCase name of an exit code, for status and events."""
    try:
        return "".join(part.capitalize() for part in ExitCode(code).name.split("_"))
    except ValueError:
        return {SIGKILLED: "Killed", SIGTERMED: "Terminated"}.get(code, f"ExitCode{code}")
