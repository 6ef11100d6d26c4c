"""What a data-plane process says by the way it ends.

The operator decides from these numbers alone; they are part of the contract
with custom trainer images.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Meaning:
    """The words for an exit code: in the status where a pod left none, in last words, and in the reference page."""

    what: str
    then: str
    """What the operator does."""
    remedy: str
    """What a person can do; empty where there is nothing to do."""


_FAILS = "the job fails at once"
_RETRIES = "next attempt after `retry.backoff`"
_RESUMES = "next attempt at once; does not count"

MEANINGS: dict[int, Meaning] = {
    ExitCode.DONE: Meaning("all steps are done and saved", "the model is published", ""),
    ExitCode.INVALID_SPEC: Meaning(
        "a value of the spec cannot work", _FAILS, "correct the field that is named, and create the job anew"
    ),
    ExitCode.DATA_INVALID: Meaning(
        "the dataset or the base model cannot be used",
        _FAILS,
        "correct the file that is named, upload it, and create the job anew",
    ),
    ExitCode.WAITING: Meaning(
        "a Secret, dataset, model or storage is not there yet",
        "looked for again every 5 to 60 s",
        "create or upload what is named",
    ),
    ExitCode.FAILED: Meaning(
        "it failed with an error that none of the other codes names, or only saw another pod vanish",
        _RETRIES,
        "read the pod's log; when it comes again on the same step, report it with the log",
    ),
    ExitCode.OUT_OF_MEMORY: Meaning(
        "the memory of the device or the host ran out",
        "micro-batch halved (`training.onOOM`), next attempt",
        "lower training.microBatchSize or data.maxLength",
    ),
    ExitCode.DIVERGED: Meaning(
        "loss or gradients are no finite numbers any more",
        _FAILS,
        "lower training.learningRate, or set training.onNaN: SkipBatch when a few batches are to blame",
    ),
    ExitCode.NO_CHECKPOINT: Meaning(
        "a checkpoint was promised, and none can be continued from",
        f"{_FAILS}; nothing is trained again in silence",
        "restore the run's directory or what changed in the spec, or set another spec.runId to begin anew",
    ),
    ExitCode.STORAGE: Meaning(
        "storage or the pod's own disk failed", _RETRIES, "look at the endpoint, credentials, free space and quota"
    ),
    ExitCode.DEVICE: Meaning(
        "a device failed its self-test or in use, or the processes could not connect",
        "next attempt on other nodes",
        "look at the node that is named: its driver, its GPUs, and NetworkPolicies between the gang's pods",
    ),
    ExitCode.GATE_FAILED: Meaning(
        "the model is trained but did not pass its gate",
        "the job fails; nothing is published",
        "see status.publish for the values measured; change the gate or the training",
    ),
    ExitCode.HANG: Meaning(
        "a process made no progress for retry.hangTimeout",
        _RETRIES,
        "the log holds all stacks; raise retry.hangTimeout if one step may take that long",
    ),
    ExitCode.STOPPED: Meaning("it was asked to stop, and its checkpoint is committed", _RESUMES, ""),
    ExitCode.STOPPED_UNSAVED: Meaning(
        "it was asked to stop, and committed nothing new",
        f"{_RESUMES}, from the last checkpoint",
        "set a shorter checkpoint.interval when this costs too much",
    ),
    SIGKILLED: Meaning(
        "it was killed with signal 9",
        _RETRIES,
        "look at the node's events; raise resources.limits.memory if the kernel killed it for memory",
    ),
    SIGTERMED: Meaning(
        "it was ended by signal 15 before it could hear it", _RETRIES, "look for who deletes the job's pods"
    ),
}


def explain(code: int) -> str:
    """`75 (Device): what happened; what to do`."""
    meaning = MEANINGS.get(code)
    if meaning is None:
        return f"{int(code)}, which is no code of a trainer: see its log"
    words = f"{int(code)} ({reason(code)}): {meaning.what}"
    return f"{words}; {meaning.remedy}" if meaning.remedy else words
