"""Saves of small snapshots in each form a checkpoint may have, and a process that saves until it is killed.

The process is a fork: a test kills it hundreds of times without paying for an import.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from finetune_api.reports import CheckpointReport
from finetune_api.runconfig import RunConfig
from finetune_artifacts import Store
from finetune_trainer.checkpoint.commit import commit
from finetune_trainer.checkpoint.fences import list_fences
from finetune_trainer.checkpoint.retention import apply_retention
from finetune_trainer.checkpoint.snapshot import Part, Snapshot
from finetune_trainer.common.stores import open_checkpoints, open_run
from tests.trainer.test_checkpoint_find import snapshot

Form = Callable[[RunConfig, Store, Store, int, Path], CheckpointReport]
"""(config, run, checkpoints, step, scratch) -> what was committed."""


def whole(config: RunConfig, run: Store, checkpoints: Store, step: int, scratch: Path) -> CheckpointReport:
    """As a rank that holds all of the model saves it."""
    return commit(config, run, checkpoints, snapshot(step), scratch)


class Pair:
    """Two threads in place of the two ranks that save together: `Together` without a process group."""

    size = 2

    def __init__(self, rank: int, told: list[Any], meet: threading.Barrier) -> None:
        self.rank, self._told, self._meet = rank, told, meet

    def all(self, mine: Any) -> list[Any]:
        self._told[self.rank] = json.loads(json.dumps(mine))
        self._meet.wait(60)
        heard = list(self._told)
        self._meet.wait(60)
        return heard

    def any(self, flag: bool) -> bool:
        return any(self.all(flag))


def half(step: int, rank: int) -> Snapshot:
    """The share of one of two ranks: of each tensor the first or the second half of its elements."""
    taken = snapshot(step)
    parts: dict[str, Part] = {}

    def cut(name: str, tensor: torch.Tensor) -> torch.Tensor:
        flat, middle = tensor.reshape(-1), tensor.numel() // 2
        if name in taken.trainable:
            parts[name] = Part(rank * middle, tuple(tensor.shape))
        return flat[middle:].clone() if rank else flat[:middle].clone()

    trainable = {name: cut(name, tensor) for name, tensor in taken.trainable.items()}
    optimizer = {name: cut(name, tensor) for name, tensor in taken.optimizer.items()}
    return Snapshot(taken.position, trainable, optimizer, parts)


def sharded(config: RunConfig, run: Store, checkpoints: Store, step: int, scratch: Path) -> CheckpointReport:
    """As two ranks save it that hold a half each."""
    told: list[Any] = [None, None]
    meet = threading.Barrier(2)

    def save(rank: int) -> CheckpointReport:
        together: Any = Pair(rank, told, meet)
        return commit(config, run, checkpoints, half(step, rank), scratch / str(rank), together=together)

    with ThreadPoolExecutor(1) as other:
        second = other.submit(save, 1)
        try:
            return save(0)
        finally:
            second.exception()


FORMS: dict[str, Form] = {"whole": whole, "sharded": sharded}


def save_for_ever(form: Form, config: RunConfig, scratch: Path, first: int, told: int) -> None:
    """Writes each committed step, 4 bytes, to the descriptor `told`."""
    run, checkpoints = open_run(config), open_checkpoints(config)
    step = first
    while True:
        form(config, run, checkpoints, step, scratch)
        os.write(told, step.to_bytes(4, "big"))
        apply_retention(checkpoints, list_fences(run), keep=2)
        step += 1


def begin(form: Form, config: RunConfig, scratch: Path, first: int) -> tuple[int, int]:
    """Forks; (pid, descriptor to read committed steps from)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            save_for_ever(form, config, scratch, first, writer)
        finally:
            os._exit(1)
    os.close(writer)
    return pid, reader
