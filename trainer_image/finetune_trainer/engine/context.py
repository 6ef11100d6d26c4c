"""A rank's place in the gang: device, process groups, determinism, and a self-test before work is trusted to them."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version

import torch
import torch.distributed as dist

from finetune_api.exitcodes import ExitCode
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError


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
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    dist.init_process_group(
        # What is offloaded lives, and is summed, on the CPU.
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        timeout=timedelta(days=7),
        device_id=device if device.type == "cuda" else None,
    )
    return Place(rank, local_rank, world_size, device)


def self_test(place: Place) -> None:
    """Raises RunError (75) when the device cannot multiply or the ranks cannot add."""
    ones_nn = torch.ones(64, 64, device=place.device, dtype=torch.bfloat16)
    product = float((ones_nn @ ones_nn).float().mean())
    total = torch.full((1,), float(place.rank + 1), device=place.device)
    dist.all_reduce(total)
    expected = place.world_size * (place.world_size + 1) / 2
    if product != 64.0 or float(total) != expected:
        raise RunError(
            ExitCode.DEVICE,
            f"self-test on rank {place.rank}: a 64x64 bf16 product gave {product} (expected 64), "
            f"all-reduce gave {float(total)} (expected {expected})",
        )
    if place.rank == 0:
        log.event(
            "self-test passed",
            device=torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else "cpu",
            world_size=place.world_size,
            threads=torch.get_num_threads(),
            python=platform.python_version(),
            torch=torch.__version__,
            transformers=version("transformers"),
            peft=version("peft"),
        )
