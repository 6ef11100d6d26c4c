"""The files of a checkpoint: two safetensors files and one JSON; nothing here can execute code when it is read.

trainable.safetensors    parameters that training changes, named as in the model
optimizer.safetensors    `<parameter>.exp_avg`, `.exp_avg_sq`, `.step`
state.json               `Position`
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from finetune_trainer.checkpoint.snapshot import Position, Snapshot

TRAINABLE = "trainable.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"


def write(snapshot: Snapshot, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(snapshot.trainable, folder / TRAINABLE)
    save_file(snapshot.optimizer, folder / OPTIMIZER)
    (folder / STATE).write_text(json.dumps(asdict(snapshot.position)))


def read_position(folder: Path) -> Position:
    return Position(**json.loads((folder / STATE).read_text()))


def read_trainable(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / TRAINABLE)


def read_optimizer(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / OPTIMIZER)
