"""What one rank holds of each trainable parameter, as the checkpoint sees it: a run of its elements in row-major order.

Every way to spread parameters over ranks comes down to that: the whole parameter (DDP), a block of its rows (FSDP), an
arbitrary run (ZeRO's flat partitions). A checkpoint made of such runs can be read by any number of ranks and by any
other strategy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

STATE = frozenset(
    {"step", "exp_avg", "exp_avg_sq", "exp_avg_scale", "exp_avg_sq_scale", "row", "column"},
)
"""What optimizers are known to remember; anything else might be lost, and is an error."""


@dataclass(frozen=True)
class Held:
    """Live storage: a save copies out of it, a restore copies into it."""

    local: torch.Tensor
    """Contiguous; may be empty."""
    state: Mapping[str, torch.Tensor]
    """The optimizer's: laid out like `local`, or scalars, or (of a whole parameter) of a shape of their own. Empty
    before the first step."""
    shape: tuple[int, ...]
    """Of the whole parameter."""
    start: int = 0
    """The first element that is held."""
    saved: bool = True
    """False where another rank saves the very same elements."""

    @property
    def whole(self) -> bool:
        return self.local.numel() == math.prod(self.shape)

    def whole_shape(self, state: torch.Tensor) -> tuple[int, ...]:
        """Of what a state tensor is the held part of."""
        return self.shape if state.ndim and state.numel() == self.local.numel() else tuple(state.shape)


def local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def hold(parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Held]:
    """Of plain parameters and of DTensors that are sharded by rows."""
    held = {}
    for name, parameter in parameters.items():
        state = {key: local(torch.as_tensor(value)) for key, value in optimizer.state.get(parameter, {}).items()}
        if unknown := sorted(state.keys() - STATE):
            raise AssertionError(f"unknown optimizer state {unknown} of {name}")
        held[name] = Held(
            local(parameter.detach()), state, tuple(parameter.shape), first_element(parameter), _is_first(parameter)
        )
    return held


def first_element(parameter: torch.Tensor) -> int:
    """Where this rank's rows begin, in row-major order of the whole; 0 for a tensor that is not sharded."""
    if not isinstance(parameter, DTensor):
        return 0
    _, offset = compute_local_shape_and_global_offset(parameter.shape, parameter.device_mesh, parameter.placements)
    return offset[0] * math.prod(parameter.shape[1:]) if offset else 0


def _is_first(parameter: torch.Tensor) -> bool:
    """Of the replicas of a hybrid mesh (replicas by shards)."""
    if not isinstance(parameter, DTensor) or parameter.device_mesh.ndim == 1:
        return True
    coordinate = parameter.device_mesh.get_coordinate()
    return coordinate is not None and coordinate[0] == 0


def zero_moments(parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """AdamW's state as its first step would make it, for a restore to write into."""
    on_device = any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
    for parameter in parameters.values():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=local(parameter).device if on_device else "cpu"),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
