"""Optimizer state (ZeRO1), gradients too (ZeRO2) and parameters too (ZeRO3) are cut over the ranks by DeepSpeed
(Rajbhandari et al. 2019, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models").

DeepSpeed keeps a rank's fp32 parameters and what the optimizer remembers of them as runs of flat buffers, which is what
`checkpoint.held` stores: a checkpoint has no form of its own, and every strategy reads it at every world size.
DeepSpeed's own checkpoints (pickles, made for one world size) are never written. Clipping, skipping and the guard stay
the loop's; DeepSpeed is told what they decided.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.parallelism import ZERO_STAGES, StrategyName
from finetune_trainer.checkpoint.held import Held
from finetune_trainer.checkpoint.snapshot import trainable_parameters
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.model import compute_precision
from finetune_trainer.engine.optim import make_optimizer, prepare, set_rate
from finetune_trainer.engine.strategy import zero_start


class ZeRO:
    lockstep = True
    spread = True
    scale = 1.0

    def __init__(self, spec: FineTuneJobSpec, name: StrategyName, model: nn.Module, place: Place) -> None:
        """`model`: ZeRO1 and ZeRO2: whole, on every rank's device. ZeRO3: real weights on rank 0's CPU; on other ranks
        only its structure is used."""
        self.name = str(name)
        self._stage = ZERO_STAGES[name]
        self._precision, self._place = spec.training.precision, place
        if self._stage == 3:
            zero_start.give_shapes(model)
        self._parameters = trainable_parameters(model)
        # Before any of them is cut: a cut parameter has no shape of its own, and the optimizer's groups go by shape.
        self._shapes = {name: tuple(p.shape) for name, p in self._parameters.items()}
        rests = torch.device("cpu") if spec.parallelism.offload else place.device
        optimizer = make_optimizer(spec, self._parameters, rests)
        config = zero_start.config(spec, self._stage, sum(math.prod(shape) for shape in self._shapes.values()))
        self._engine = zero_start.start(model, optimizer, config, place, cut=self._stage == 3)
        self._zero = self._engine.optimizer
        self.model: nn.Module = _Through(self._engine, model)

    def precision(self) -> AbstractContextManager[Any]:
        """For what is computed outside the model; DeepSpeed's engine sets its own within, and the same."""
        return compute_precision(self._precision, self._place.device)

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        self._engine.set_gradient_accumulation_boundary(last)
        # Gradients are averaged over the ranks; the loss is made for a sum.
        self._engine.backward(loss * float(self._place.world_size))

    def norm(self) -> torch.Tensor:
        if self._stage == 3:
            from deepspeed.runtime.utils import combine_grad_norm_groups

            norm = combine_grad_norm_groups(self._zero._get_norm_groups())
        else:
            norm = self._zero.scaled_global_norm()
        norm = torch.as_tensor(norm, dtype=torch.float32)
        # DeepSpeed says -1 of a norm that is no number.
        return torch.where(norm < 0, torch.full_like(norm, math.nan), norm)

    def update(self, rate: float, max_norm: float, norm: torch.Tensor) -> None:
        self._zero.clip_grad = max_norm if math.isfinite(max_norm) else 0.0
        set_rate(self._zero.optimizer, rate)
        self._engine.step()

    def skip(self) -> None:
        """As DeepSpeed drops the gradients of a step whose numbers overflowed."""
        zero = self._zero
        if self._stage == 3:
            zero._pre_step()
            zero._partition_all_parameters()
            zero._overflow_clean_up(1.0)
            return
        zero.micro_step_id = -1
        zero.zero_grad(set_to_none=True)
        zero._release_preflattened_grad_buffers()
        if zero.cpu_offload:
            zero._offload_accumulated_param_ids = set()
            zero.reset_cpu_buffers()
        else:
            for group in zero.averaged_gradients:
                zero.averaged_gradients[group] = None
                zero.all_grad_tensors[group] = None

    def held(self) -> Mapping[str, Held]:
        held = {}
        for name, (flat, at, count, start) in zip(self._parameters, self._places(), strict=True):
            state = {
                key: value.narrow(0, at, count) if value.ndim else value
                for key, value in self._zero.optimizer.state.get(flat, {}).items()
            }
            held[name] = Held(flat.detach().narrow(0, at, count), state, self._shapes[name], start)
        return held

    def prepare_restore(self) -> None:
        flats = self._zero.fp32_partitioned_groups_flat if self._stage == 3 else self._masters()
        prepare({str(number): flat for number, flat in enumerate(flats)}, self._zero.optimizer)

    @torch.no_grad()
    def restored(self) -> None:
        """The parameters that are computed with follow the ones that are kept."""
        if self._stage == 3:
            for group in range(len(self._zero.fp16_groups)):
                self._zero._reassign_or_swap_out_partitioned_parameters(group)
        else:
            self._zero.update_lp_params()

    def _masters(self) -> list[Any]:
        return list(self._zero.single_partition_of_fp32_groups)

    def _places(self) -> Iterator[tuple[Any, int, int, int]]:
        """Of each parameter: (flat buffer, first element in it, elements, first element in the parameter). A parameter
        of which this rank holds nothing has 0 elements of a buffer that knows the names of its state."""
        for parameter in self._parameters.values():
            yield self._cut(parameter) if self._stage == 3 else self._mapped(parameter)

    def _mapped(self, parameter: Any) -> tuple[Any, int, int, int]:
        masters, mapping = self._masters(), parameter._hp_mapping
        if mapping is None:
            return masters[0], 0, 0, 0
        here, there = mapping.hp_fragment_address, mapping.lp_fragment_address
        return masters[mapping.param_group_index], here.start, here.numel, there.start

    def _cut(self, parameter: Any) -> tuple[Any, int, int, int]:
        """Cut into equal parts, of which the last ones are padded or nothing but padding."""
        group, at, part = self._zero.grad_position[self._zero.get_param_id(parameter)]
        start = min(self._place.rank * part, parameter.ds_numel)
        flat = self._zero.fp32_partitioned_groups_flat[group]
        return flat, at, min(part, parameter.ds_numel - start), start


class _Through(nn.Module):
    """Forward passes go through the engine; to who asks for attributes it is the model."""

    def __init__(self, engine: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self.engine = engine
        self._model = (model,)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.engine(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Not the engine's: what it calls `config` is DeepSpeed's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_model"][0], name)
