"""Parameters, gradients and moments are cut by rows over the ranks (FSDP2, `torch.distributed.fsdp.fully_shard`).

Each decoder layer is gathered when its turn comes and freed after it. No rank but the first ever reads the model, and
none holds it whole on its device: parameters are sent one by one, and each rank keeps its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.training import Precision
from finetune_trainer.checkpoint.held import Held, first_element, local
from finetune_trainer.common.errors import SpecError
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.layers import decoder_layers
from finetune_trainer.engine.model import COMPUTE
from finetune_trainer.engine.strategy.adam import WithAdam


class FSDP(WithAdam):
    name = "FSDP"
    lockstep = True
    spread = True

    def __init__(self, spec: FineTuneJobSpec, model: nn.Module, place: Place, *, ranks_per_node: int) -> None:
        """`model`: real weights on rank 0's CPU; on other ranks only its structure is used."""
        parallelism = spec.parallelism
        mesh = _mesh(place, ranks_per_node if parallelism.hybrid_shard else None)
        source = {name: p.detach() for name, p in model.named_parameters()} if place.rank == 0 else {}
        _to_meta(model)
        policy: dict[str, Any] = {
            "mesh": mesh,
            "mp_policy": _mixed(spec.training.precision),
            "offload_policy": CPUOffloadPolicy(pin_memory=place.device.type == "cuda")
            if parallelism.offload
            else OffloadPolicy(),
        }
        layers = decoder_layers(model)
        if not layers:
            raise SpecError("spec.parallelism.strategy", self.name, "it needs a model built of decoder layers; use DDP")
        for layer in layers:
            fully_shard(layer, **policy)
        root = fully_shard(model, **policy)
        for module in root.modules():
            if hasattr(module, "set_gradient_divide_factor"):
                module.set_force_sum_reduction_for_comms(True)
                module.set_gradient_divide_factor(1.0)
        store = torch.device("cpu") if parallelism.offload else place.device
        _fill(model, source, place.device, store)
        super().__init__(spec, model, store)

    def precision(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def norm(self) -> torch.Tensor:
        norm = self._norm()
        return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _mesh(place: Place, ranks_per_node: int | None) -> DeviceMesh:
    kind = place.device.type
    if ranks_per_node is None or ranks_per_node == place.world_size:
        return init_device_mesh(kind, (place.world_size,), mesh_dim_names=("shard",))
    shape = (place.world_size // ranks_per_node, ranks_per_node)
    return init_device_mesh(kind, shape, mesh_dim_names=("replicate", "shard"))


def _mixed(precision: Precision) -> MixedPrecisionPolicy:
    """Gathered and computed in 16 bits, kept, summed and updated in fp32."""
    if precision not in COMPUTE:
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(param_dtype=COMPUTE[precision], reduce_dtype=torch.float32)


def _to_meta(model: nn.Module) -> None:
    """Buffers stay: they are small and some (rotary frequencies) are in no file."""
    moved: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter not in moved:
                moved[parameter] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
            setattr(module, name, moved[parameter])


def _fill(model: nn.Module, source: Mapping[str, torch.Tensor], device: torch.device, store: torch.device) -> None:
    """Allocates each rank's rows on `store` and sends them from rank 0."""
    buffers = dict(model.named_buffers())
    model.to_empty(device=store)
    for name, buffer in buffers.items():
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, buffer.to(device))
    with torch.no_grad():
        held = {n: Held(local(p.detach()), {}, tuple(p.shape), first_element(p)) for n, p in model.named_parameters()}
        for name, piece in held.items():
            whole = torch.empty(piece.shape, dtype=piece.local.dtype, device=device)
            if name in source:
                whole.copy_(source[name])
            dist.broadcast(whole, src=0)
            rows = whole.reshape(-1)[piece.start : piece.start + piece.local.numel()]
            piece.local.copy_(rows.reshape(piece.local.shape))
