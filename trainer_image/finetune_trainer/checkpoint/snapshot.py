"""What a checkpoint is made of, as a copy in host memory.

The copy is the only time training stands still; writing and uploading happen behind it. A frozen base model is not
part of it. There is no RNG state either: every random number is derived from (seed, epoch, batch, position), see
`engine.seeding`, so there is none to lose.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

OPTIMIZER_STATE = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class Position:
    """Where training stands; everything that is not a tensor."""

    step: int
    epoch: float
    tokens: int
    loss: float | None
    total_steps: int
    world_size: int
    global_batch_size: int
    rows: int


@dataclass(frozen=True)
class Snapshot:
    position: Position
    trainable: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor] = field(default_factory=dict)
    agreed_at: float = 0.0
    """Monotonic seconds when the ranks agreed to save."""
    stall_seconds: float = 0.0


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """By name, in the order of the model. Tied parameters appear once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _host(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def copy_trainable(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: _host(p) for name, p in trainable_parameters(model).items()}


def copy_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """`<parameter>.<state>` for every state tensor; shapes as the parameter's, `step` is a scalar."""
    result = {}
    for name, parameter in trainable_parameters(model).items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if key not in OPTIMIZER_STATE:
                raise AssertionError(f"unknown optimizer state {key} of {name}")
            result[f"{name}.{key}"] = _host(torch.as_tensor(value))
    return result
