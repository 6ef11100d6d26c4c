"""What strategies share whose optimizer works on plain tensors or DTensors: torch knows both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.checkpoint.held import Held, hold
from finetune_trainer.checkpoint.snapshot import trainable_parameters
from finetune_trainer.engine.optim import make_optimizer, prepare, set_rate
from finetune_trainer.methods.remember import memory_of


class WithAdam:
    """The part of a Strategy that does not depend on where parameters lie."""

    scale = 1.0

    def __init__(self, spec: FineTuneJobSpec, model: nn.Module, device: torch.device) -> None:
        """`device`: where the trainable parameters rest."""
        self.model = model
        self._parameters = trainable_parameters(model)
        self._memory = memory_of(model)
        self._optimizer = make_optimizer(spec, self._parameters, device)

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        scaled = loss if self.scale == 1.0 else loss * self.scale
        scaled.backward()  # type: ignore[no-untyped-call]

    def _norm(self) -> torch.Tensor:
        gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
        if self.scale != 1.0:
            for gradient in gradients:
                gradient.mul_(1.0 / self.scale)
        return nn.utils.get_total_norm(gradients)

    def update(self, rate: float, max_norm: float, norm: torch.Tensor) -> None:
        nn.utils.clip_grads_with_norm_(self._parameters.values(), max_norm, norm)
        set_rate(self._optimizer, rate)
        self._optimizer.step()
        self._memory.after_update()
        self.skip()

    def skip(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def held(self) -> Mapping[str, Held]:
        held = hold(self._parameters, self._optimizer)
        for name, remembered in self._memory.tensors().items():
            held[name] = replace(held[name], state={**held[name].state, **remembered})
        return held

    def prepare_restore(self) -> None:
        prepare(self._parameters, self._optimizer)

    def restored(self) -> None:
        """What is held is what is computed with."""
