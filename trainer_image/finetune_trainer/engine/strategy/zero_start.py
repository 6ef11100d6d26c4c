"""Starts DeepSpeed's engine: its configuration, its place in our process group, and a model cut before it is whole."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.training import Precision
from finetune_trainer.engine.context import Place
from finetune_trainer.model.estimate.zero import BUCKET_ELEMENTS, LIVE_ELEMENTS


def config(spec: FineTuneJobSpec, stage: int, trainable: int) -> dict[str, Any]:
    """`trainable`: elements of all trainable parameters. Batches, clipping and rates are the loop's."""
    bucket = min(BUCKET_ELEMENTS, max(trainable, 2))
    bucket += bucket % 2
    zero: dict[str, Any] = {
        "stage": stage,
        "contiguous_gradients": True,
        "overlap_comm": False,
        "round_robin_gradients": False,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
    }
    if stage == 3:
        zero |= {
            # Nothing stays gathered: what is small as well is fetched with its neighbours, and freed with them.
            "stage3_param_persistence_threshold": 0,
            "stage3_max_reuse_distance": 0,
            "stage3_prefetch_bucket_size": bucket,
            "stage3_max_live_parameters": LIVE_ELEMENTS,
            "sub_group_size": LIVE_ELEMENTS,
            # Otherwise torch.nn.functional.linear is replaced in the whole process.
            "memory_efficient_linear": False,
        }
    if spec.parallelism.offload:
        host = {"device": "cpu", "pin_memory": spec.resources.gpus_per_node > 0}
        zero |= {"offload_optimizer": host} | ({"offload_param": host} if stage == 3 else {})
    made: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "steps_per_print": 10**9,
        "zero_optimization": zero,
        # The optimizer is ours. DeepSpeed's are compiled when first used, by a compiler that no image should need.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    if spec.training.precision is Precision.BF16:
        # No module is named: parameters and gradients travel in fp32.
        made["torch_autocast"] = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
    return made


def start(model: nn.Module, optimizer: torch.optim.Optimizer, config: Any, place: Place, *, cut: bool) -> Any:
    """DeepSpeed's engine in the process group that stands. `cut`: parameters are cut one by one before it begins."""
    if place.device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    with _quiet():
        import deepspeed
        from deepspeed.ops import __compatible_ops__

        deepspeed.logger.setLevel(logging.ERROR)
        # None of its kernels is needed; some are compiled as soon as they are looked for.
        for kernel in __compatible_ops__:
            __compatible_ops__[kernel] = False
        backend = "nccl" if place.device.type == "cuda" else "gloo"
        deepspeed.init_distributed(dist_backend=backend, dist_init_required=False)
        if cut:
            _cut(model, deepspeed.zero.Init(config_dict_or_path=config), place)
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config, dist_init_required=False)
    # Collectives of every step.
    warnings.filterwarnings("ignore", r".*torch\.distributed.*", FutureWarning)
    return engine


@contextmanager
def _quiet() -> Iterator[None]:
    """What DeepSpeed warns of while it is imported and set up is not our user's to change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def give_shapes(model: nn.Module) -> None:
    """Parameters without storage (meta device) get one element of it and keep their shapes: an optimizer can be made
    over them, and each is filled when its turn comes. Tied ones stay tied."""
    given: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.device.type != "meta":
                continue
            if parameter not in given:
                element = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
                given[parameter] = nn.Parameter(element, requires_grad=parameter.requires_grad)
            setattr(module, name, given[parameter])


def _cut(model: nn.Module, init: Any, place: Place) -> None:
    """Rank 0 sends each parameter, every rank keeps its part; no rank's device ever holds two whole ones."""
    for parameter in model.parameters():
        if dist.get_rank() != 0:
            parameter.data = torch.empty(parameter.shape, dtype=parameter.dtype, device=place.device)
        init._convert_to_zero_parameters([parameter])
    for buffer in model.buffers():
        buffer.data = buffer.data.to(place.device)


def elements(parameter: nn.Parameter) -> int:
    """Of the whole parameter, also where DeepSpeed has cut it."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))
