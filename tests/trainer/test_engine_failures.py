"""From exceptions to exit codes."""

from __future__ import annotations

import pytest
import torch

from finetune_api.exitcodes import ExitCode
from finetune_artifacts import DigestMismatch, Unreachable
from finetune_trainer.common.errors import RunError, SpecError
from finetune_trainer.engine.failures import classify


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RunError(ExitCode.DIVERGED, "loss nan"), 72),
        (SpecError("spec.method.lora.targetModules", "q", "no such module"), 64),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), 71),
        (MemoryError(), 71),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), 71),
        (Unreachable("s3://b/x", "write", "no answer"), 74),
        (DigestMismatch("s3://b/x", "xxh3:1", "xxh3:2"), 74),
        (OSError(28, "No space left on device"), 74),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), 75),
        (ZeroDivisionError("division by zero"), 70),
    ],
)
def test_codes(error: BaseException, code: int) -> None:
    failure = classify(error, started=True)
    assert failure.code == code
    assert not failure.secondary
    assert failure.message


def test_broken_connection_is_a_device_fault_only_before_the_gang_stood() -> None:
    error = RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error [10.0.0.2]:1: Connection reset by peer. This is "
                         "typically caused by a remote worker hanging")  # fmt: skip
    early, late = classify(error, started=False), classify(error, started=True)
    assert (early.code, early.reason, early.secondary) == (75, "Rendezvous", False)
    assert (late.code, late.reason, late.secondary) == (70, "PeerLost", True)
    assert late.message.endswith("Connection reset by peer.")


def test_words_of_a_run_error_are_kept() -> None:
    failure = classify(RunError(ExitCode.STORAGE, "full", reason="DiskFull"), started=False)
    assert (failure.reason, failure.message) == ("DiskFull", "full")
