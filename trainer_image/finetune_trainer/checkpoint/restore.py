"""Brings a checkpoint's tensors into the model and the optimizer of every rank.

Only rank 0 reads files; the others get the bytes over the process group, one tensor at a time, and keep their run of
it. So nobody else needs the files, no rank ever holds more than one whole tensor, and the strategy and the world size
that wrote a checkpoint do not matter. Each name and shape must fit: a checkpoint of another model is an error in words,
never a partial load.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from finetune_api.exitcodes import ExitCode
from finetune_trainer.checkpoint import files
from finetune_trainer.checkpoint.files import Tensors
from finetune_trainer.checkpoint.held import Held
from finetune_trainer.checkpoint.snapshot import trainable_parameters
from finetune_trainer.common.errors import RunError
from finetune_trainer.methods.remember import Memory


def _check(tensors: Tensors, expected: Mapping[str, tuple[int, ...]], what: str) -> None:
    missing = sorted(expected.keys() - tensors.keys())
    extra = sorted(tensors.keys() - expected.keys())
    if missing or extra:
        raise RunError(
            ExitCode.NO_CHECKPOINT,
            f"the checkpoint's {what} is of another model: missing {missing[:3]}, unexpected {extra[:3]}",
        )
    for name, shape in expected.items():
        if tensors.shapes[name] != shape:
            raise RunError(
                ExitCode.NO_CHECKPOINT,
                f"the checkpoint's {what} {name} has shape {list(tensors.shapes[name])}, the model has {list(shape)}",
            )


def load_trainable(model: nn.Module, folder: Path) -> None:
    """Into one process that holds all of the model, from a verified local copy of a checkpoint."""
    parameters = trainable_parameters(model)
    tensors = files.read_trainable(folder)
    _check(tensors, {name: tuple(p.shape) for name, p in parameters.items()}, "parameter")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def load_memory(memory: Memory, folder: Path) -> None:
    """What the method remembers besides its parameters (`methods.remember`)."""
    wanted = {f"{name}.{key}": t for name, keys in memory.tensors().items() for key, t in keys.items()}
    tensors = files.read_optimizer(folder) if wanted else {}
    missing = sorted(wanted.keys() - tensors.keys())
    if missing:
        raise RunError(ExitCode.NO_CHECKPOINT, f"the checkpoint lacks what the method remembers: {missing[:3]}")
    with torch.no_grad():
        for name, target in wanted.items():
            target.copy_(tensors[name])
    memory.restored(fresh=False)


def check(held: Mapping[str, Held], folder: Path) -> None:
    """Of rank 0, before anything is sent. Raises RunError (73) in words."""
    _check(files.read_trainable(folder), {name: piece.shape for name, piece in held.items()}, "parameter")
    states = {
        f"{name}.{key}": piece.whole_shape(value) for name, piece in held.items() for key, value in piece.state.items()
    }
    _check(files.read_optimizer(folder), states, "optimizer state")


def scatter(held: Mapping[str, Held], folder: Path | None, device: torch.device) -> None:
    """On every rank, in one order; `folder` on rank 0 only. `held` has moments to write into."""
    trainable = files.read_trainable(folder) if folder else None
    states = files.read_optimizer(folder) if folder else None
    with torch.no_grad():
        for name, piece in held.items():
            _send(piece.local, piece, trainable[name] if trainable else None, device)
            for key, value in piece.state.items():
                _send(value, piece, states[f"{name}.{key}"] if states else None, device)


def share(held: Mapping[str, Held], device: torch.device) -> None:
    """Rank 0's own values of whole parameters to all ranks: every replica begins alike."""
    with torch.no_grad():
        for piece in held.values():
            _send(piece.local, piece, piece.local if dist.get_rank() == 0 else None, device)


def _send(target: torch.Tensor, piece: Held, source: torch.Tensor | None, device: torch.device) -> None:
    shape = piece.whole_shape(target)
    whole = torch.empty(shape, dtype=target.dtype, device=device) if source is None else source.to(device, target.dtype)
    flat = whole.reshape(-1).contiguous()
    dist.broadcast(flat, src=0)
    start = piece.start if target.ndim else 0
    target.copy_(flat[start : start + target.numel()].reshape(target.shape))
