"""Brings a checkpoint's tensors into the model and the optimizer of every rank.

Only rank 0 reads files; the others get the bytes over the process group. Each name and shape must fit: a checkpoint
of another model is an error in words, never a partial load.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from finetune_api.exitcodes import ExitCode
from finetune_trainer.checkpoint import files
from finetune_trainer.checkpoint.snapshot import trainable_parameters
from finetune_trainer.common.errors import RunError


def _checked(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Size], what: str) -> None:
    missing = sorted(expected.keys() - tensors.keys())
    extra = sorted(tensors.keys() - expected.keys())
    if missing or extra:
        raise RunError(
            ExitCode.NO_CHECKPOINT,
            f"the checkpoint's {what} is of another model: missing {missing[:3]}, unexpected {extra[:3]}",
        )
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise RunError(
                ExitCode.NO_CHECKPOINT,
                f"the checkpoint's {what} {name} has shape {list(tensors[name].shape)}, the model has {list(shape)}",
            )


def load_trainable(model: nn.Module, folder: Path) -> None:
    """Into one process, from a verified local copy of a checkpoint."""
    parameters = trainable_parameters(model)
    tensors = files.read_trainable(folder)
    _checked(tensors, {name: p.shape for name, p in parameters.items()}, "parameter")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def _moments(optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]) -> None:
    """Zero moments, as the first step would make them."""
    fused = any(group.get("fused") for group in optimizer.param_groups)
    for parameter in parameters.values():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device if fused else "cpu"),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    parameters = trainable_parameters(model)
    _moments(optimizer, parameters)
    tensors = files.read_optimizer(folder)
    expected = {f"{n}.{key}": value.shape for n, p in parameters.items() for key, value in optimizer.state[p].items()}
    _checked(tensors, expected, "optimizer state")
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            value.copy_(tensors[f"{name}.{key}"])


def share(model: nn.Module, optimizer: torch.optim.Optimizer | None, device: torch.device) -> None:
    """Rank 0's trainable parameters (and moments) to all ranks."""
    parameters = trainable_parameters(model)
    if optimizer is not None and dist.get_rank() != 0:
        _moments(optimizer, parameters)
    for parameter in parameters.values():
        dist.broadcast(parameter.data, src=0)
        if optimizer is not None:
            for key in ("step", "exp_avg", "exp_avg_sq"):
                value = optimizer.state[parameter][key]
                moved = value.to(device).reshape(-1)
                dist.broadcast(moved, src=0)
                value.copy_(moved.reshape(value.shape))
