"""torch.compile, layer by layer: layers of one kind share one compiled program, so that an attempt's start costs what
one layer takes and not what the model takes (PyTorch's tutorial "Reducing torch.compile cold start compilation time
with regional compilation").

Only what is learned from is compiled. Evaluations, references and answers that are written token by token have other
shapes and no gradients, and would each cost a compilation of their own.

Sizes are dynamic from the first step on. Otherwise the second length would bring another program than the first, and a
run that was interrupted would compute its next step by another one than a run that was not.
"""

from __future__ import annotations

import os
import shutil
from functools import wraps
from typing import Any

import torch
from torch import nn

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.common.errors import SpecError
from finetune_trainer.engine.layers import decoder_layers

_FIELD = "spec.training.compile"


def is_compiled(spec: FineTuneJobSpec, device: torch.device) -> bool:
    """Raises SpecError (64) where it is asked for and this image cannot."""
    if not spec.training.compile:
        return False
    if compiler(device) is None:
        what = "C" if device.type == "cuda" else "C++"
        raise SpecError(_FIELD, True, f"this trainer image has no {what} compiler; use one with it, or remove this")
    return True


def compiler(device: torch.device) -> str | None:
    """Path of the one that Triton (GPU: C, for its launchers) or Inductor (CPU: C++) calls."""
    names, variable = (("gcc", "clang"), "CC") if device.type == "cuda" else (("g++", "clang++"), "CXX")
    chosen = os.environ.get(variable)
    found = (shutil.which(name) for name in ([chosen] if chosen else names))
    return next(filter(None, found), None)


def compile_layers(model: nn.Module) -> None:
    """Raises SpecError for a model that is not built of layers."""
    layers = decoder_layers(model)
    if not layers:
        raise SpecError(_FIELD, True, f"{type(model).__name__} is not built of decoder layers; remove the field")
    for layer in layers:
        layer.forward = _with_gradients(layer.forward)


def _with_gradients(plain: Any) -> Any:
    fast = torch.compile(plain, dynamic=True)

    @wraps(plain)
    def forward(*inputs: Any, **options: Any) -> Any:
        return (fast if torch.is_grad_enabled() else plain)(*inputs, **options)

    return forward
