"""A rank's place in the gang: device, process groups, determinism, and a self-test before work is trusted to them."""

from __future__ import annotations

import math
import os
import platform
import zlib
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import torch
import torch.distributed as dist

from finetune_api.exitcodes import ExitCode
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError

_SIDE = 64


@dataclass(frozen=True)
class Place:
    rank: int
    local_rank: int
    world_size: int
    device: torch.device


def join(gpus_per_node: int) -> Place:
    """Reads the variables that elastic sets, and forms the main process group."""
    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    world_size = int(os.environ["WORLD_SIZE"])
    device = torch.device("cpu")
    if gpus_per_node > 0:
        if not torch.cuda.is_available():
            raise RunError(
                ExitCode.DEVICE, f"the pod was given {gpus_per_node} GPUs, but torch {torch.__version__} sees none"
            )
        if local_rank >= torch.cuda.device_count():
            raise RunError(
                ExitCode.DEVICE,
                f"the pod runs more processes than it has GPUs ({torch.cuda.device_count()}); "
                "lower spec.resources.processesPerNode or raise gpusPerNode",
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Else every new tensor is written once for nothing; no operation here reads what it did not write.
        deterministic: Any = torch.utils.deterministic
        deterministic.fill_uninitialized_memory = False
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    dist.init_process_group(
        # What is offloaded lives, and is summed, on the CPU.
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        timeout=timedelta(days=7),
        device_id=device if device.type == "cuda" else None,
    )
    return Place(rank, local_rank, world_size, device)


def self_test(place: Place) -> None:
    """Raises RunError (75), on every rank that sees it, naming itself: the device cannot multiply, the ranks cannot
    add, or they run different software."""
    versions = " ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    versions = f"python {platform.python_version()} {versions}"
    mine = zlib.crc32(versions.encode())
    try:
        product = _product(place.device)
        # One exchange: nobody who found a fault leaves before the others have heard from it.
        seen = torch.tensor([place.rank + 1, mine, mine * mine], dtype=torch.float64, device=place.device)
        dist.all_reduce(seen)
        total, first, second = seen.tolist()
    except RuntimeError as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RunError(ExitCode.DEVICE, f"self-test on {where(place)} could not run: {line}") from error
    world = place.world_size
    if faults := complaints(world, product, total, alike=_equal(world, mine, first, second), versions=versions):
        raise RunError(ExitCode.DEVICE, f"self-test on {where(place)}: {'; '.join(faults)}")
    if place.rank == 0:
        log.event(
            "self-test passed",
            device=_device_name(place.device),
            world_size=place.world_size,
            threads=torch.get_num_threads(),
            versions=versions,
        )


def where(place: Place) -> str:
    """Rank, host and device, as a person looks for them. In a pod the host's name is the pod's."""
    return f"rank {place.rank} in {platform.node()} on {place.device} ({_device_name(place.device)})"


def complaints(world: int, product: float, total: float, *, alike: bool, versions: str) -> list[str]:
    """What the measured values say is wrong."""
    expected = world * (world + 1) / 2
    found = []
    if product != _SIDE:
        found.append(f"a {_SIDE}x{_SIDE} bf16 product gave {product:g}, expected {_SIDE}: the device computes wrongly")
    if total != expected:
        found.append(f"all-reduce over {world} ranks gave {total:g}, expected {expected:g}: the connection is broken")
    elif not alike:
        found.append(f"the ranks run different software, this one {versions}: use one image for all pods")
    return found


def _product(device: torch.device) -> float:
    ones_nn = torch.ones(_SIDE, _SIDE, device=device, dtype=torch.bfloat16)
    return float((ones_nn @ ones_nn).float().mean())


def _equal(world: int, mine: int, total: float, squares: float) -> bool:
    """Whether all numbers equal `mine`, by their sum and the sum of their squares, which are rounded."""
    return math.isclose(total, world * mine, rel_tol=1e-12) and math.isclose(squares, world * mine**2, rel_tol=1e-12)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
