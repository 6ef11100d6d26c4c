"""Saves of small snapshots in each form a checkpoint may have, and a process that saves until it is killed.

The process is a fork: a test kills it hundreds of times without paying for an import.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from finetune_api.reports import CheckpointReport
from finetune_api.runconfig import RunConfig
from finetune_artifacts import Store
from finetune_trainer.checkpoint.commit import commit
from finetune_trainer.checkpoint.fences import list_fences
from finetune_trainer.checkpoint.retention import apply_retention
from finetune_trainer.common.stores import open_checkpoints, open_run
from tests.trainer.test_checkpoint_find import snapshot

Form = Callable[[RunConfig, Store, Store, int, Path], CheckpointReport]
"""(config, run, checkpoints, step, scratch) -> what was committed."""


def whole(config: RunConfig, run: Store, checkpoints: Store, step: int, scratch: Path) -> CheckpointReport:
    """As a rank that holds all of the model saves it."""
    return commit(config, run, checkpoints, snapshot(step), scratch)


FORMS: dict[str, Form] = {"whole": whole}


def save_for_ever(config: RunConfig, scratch: Path, first: int, told: int) -> None:
    """Writes each committed step, 4 bytes, to the descriptor `told`."""
    run, checkpoints = open_run(config), open_checkpoints(config)
    step = first
    while True:
        whole(config, run, checkpoints, step, scratch)
        os.write(told, step.to_bytes(4, "big"))
        apply_retention(checkpoints, list_fences(run), keep=2)
        step += 1


def begin(config: RunConfig, scratch: Path, first: int) -> tuple[int, int]:
    """Forks; (pid, descriptor to read committed steps from)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            save_for_ever(config, scratch, first, writer)
        finally:
            os._exit(1)
    os.close(writer)
    return pid, reader
