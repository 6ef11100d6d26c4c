"""What a checkpoint is made of, as a copy in host memory.

The copy is the only time training stands still; writing and uploading happen behind it. A frozen base model is not
part of it. There is no RNG state either: every random number is derived from (seed, epoch, batch, position), see
`engine.seeding`, so there is none to lose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from finetune_trainer.checkpoint.held import Held


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
    packed: bool = False
    """Whether a row was several records; checkpoints from before packing do not say, and were not."""
    guard: dict[str, Any] | None = None
    """What `engine.guard` remembers; None in checkpoints from before it existed."""
    watch: dict[str, Any] | None = None
    """What `engine.watch` remembers, likewise."""
    loss_scale: dict[str, Any] | None = None
    """What `engine.loss_scale` remembers; None unless the precision is FP16."""
    eval_loss: float | None = None
    """The held-out loss of exactly this step, where it was looked at."""


@dataclass(frozen=True)
class Part:
    """The place of a piece within its parameter."""

    start: int
    shape: tuple[int, ...]
    """Of the whole parameter."""


@dataclass(frozen=True)
class Snapshot:
    """One rank's share."""

    position: Position
    trainable: dict[str, torch.Tensor]
    """By parameter. Of the parameter's shape when it is all there, else flat."""
    optimizer: dict[str, torch.Tensor] = field(default_factory=dict)
    """`<parameter>.<state>`, shaped alike; `step` is a scalar."""
    parts: dict[str, Part] = field(default_factory=dict)
    """By parameter, where this rank holds only a piece."""
    agreed_at: float = 0.0
    """Monotonic seconds when the ranks agreed to save."""
    stall_seconds: float = 0.0


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """By name, in the order of the model. Tied parameters appear once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


Copied = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, Part]]


def copy(held: Mapping[str, Held]) -> Copied:
    """(trainable, optimizer, parts) of what is held; empty shares are left out."""
    trainable, optimizer, parts = {}, {}, {}
    for name, piece in held.items():
        if not piece.saved:
            continue
        if not piece.whole:
            if not piece.local.numel():
                continue
            parts[name] = Part(piece.start, piece.shape)
        trainable[name] = _host(piece.local, piece)
        for key, value in piece.state.items():
            optimizer[f"{name}.{key}"] = _host(value, piece)
    return trainable, optimizer, parts


def _host(tensor: torch.Tensor, piece: Held) -> torch.Tensor:
    copied = tensor.detach().to("cpu", copy=True).contiguous()
    if copied.ndim == 0:
        return copied
    return copied.reshape(piece.whole_shape(tensor)) if piece.whole else copied.reshape(-1)
