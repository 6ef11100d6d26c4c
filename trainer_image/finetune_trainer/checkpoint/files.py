"""The files of a checkpoint: safetensors and one JSON; nothing here can execute code when it is read.

trainable.safetensors    parameters that training changes, named as in the model
optimizer.safetensors    `<parameter>.exp_avg`, `.exp_avg_sq`, `.step`, or what else the optimizer remembers
state.json               `Position`

Where ranks hold pieces, each writes files of its own, `trainable-00001-of-00004.safetensors` and so on: a piece is
stored flat, and the file's metadata says where in its parameter it begins and which shape that one has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from finetune_api.exitcodes import ExitCode
from finetune_trainer.checkpoint.snapshot import Part, Position, Snapshot
from finetune_trainer.common.errors import RunError

TRAINABLE = "trainable"
OPTIMIZER = "optimizer"
STATE = "state.json"
_PARTS = "finetune.parts"


def write(snapshot: Snapshot, folder: Path, *, rank: int = 0, ranks: int = 1) -> None:
    """This rank's files; the first one's also hold the position."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = f"-{rank + 1:05}-of-{ranks:05}" if ranks > 1 else ""
    states = {name: snapshot.parts[name.rpartition(".")[0]] for name in _pieces_of(snapshot)}
    for kind, tensors, parts in (
        (TRAINABLE, snapshot.trainable, snapshot.parts),
        (OPTIMIZER, snapshot.optimizer, states),
    ):
        metadata = (
            {_PARTS: json.dumps({name: [p.start, list(p.shape)] for name, p in parts.items()})} if parts else None
        )
        try:
            save_file(tensors, folder / f"{kind}{suffix}.safetensors", metadata=metadata)
        except SafetensorError as error:  # a full disk
            raise OSError(str(error)) from error
    if rank == 0:
        (folder / STATE).write_text(json.dumps(asdict(snapshot.position)))


def _pieces_of(snapshot: Snapshot) -> list[str]:
    return [n for n, t in snapshot.optimizer.items() if t.ndim and n.rpartition(".")[0] in snapshot.parts]


def read_position(folder: Path) -> Position:
    return Position(**json.loads((folder / STATE).read_text()))


class Tensors(Mapping[str, torch.Tensor]):
    """The whole tensors of one kind, put together from their pieces as they are asked for."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._files: list[Any] = [
            safe_open(path, framework="pt") for path in sorted(folder.glob(f"{kind}*.safetensors"))
        ]
        self._where: dict[str, list[tuple[Any, Part | None]]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for file in self._files:
            parts = json.loads((file.metadata() or {}).get(_PARTS, "{}"))
            for name in file.keys():  # noqa: SIM118 - not a dict
                part = Part(parts[name][0], tuple(parts[name][1])) if name in parts else None
                self._where.setdefault(name, []).append((file, part))
                self.shapes[name] = part.shape if part else tuple(file.get_slice(name).get_shape())

    def __iter__(self) -> Any:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, name: str) -> torch.Tensor:
        """Raises RunError (73) when a piece is missing."""
        pieces = self._where[name]
        file, part = pieces[0]
        if part is None:
            return file.get_tensor(name)  # type: ignore[no-any-return]
        shape, whole, filled = part.shape, None, 0
        for file, part in pieces:
            assert part is not None
            tensor = file.get_tensor(name)
            if whole is None:
                whole = torch.empty(math.prod(shape), dtype=tensor.dtype)
            whole[part.start : part.start + tensor.numel()] = tensor
            filled += tensor.numel()
        if whole is None or filled != whole.numel():
            raise RunError(
                ExitCode.NO_CHECKPOINT, f"the checkpoint holds {filled} of {math.prod(shape)} elements of {name}"
            )
        return whole.reshape(shape)


def read_trainable(folder: Path) -> Tensors:
    return Tensors(folder, TRAINABLE)


def read_optimizer(folder: Path) -> Tensors:
    return Tensors(folder, OPTIMIZER)
