"""Bottleneck adapters: a small network after each layer's feed-forward (Pfeiffer et al. 2020), or after attention too
(Houlsby et al. 2019): down, GELU, up, added to what it reads. The up-projection starts at zero, so training starts at
the base model. They are no linear map, so they cannot be merged.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from finetune_api import method as api
from finetune_api.method import BottleneckStyle
from finetune_trainer.common.errors import SpecError

_NAME = "bottleneck"
_FEED_FORWARD = ("mlp", "feed_forward", "ffn")
_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


class Adapter(nn.Module):
    def __init__(self, hidden: int, size: int, like: torch.Tensor) -> None:
        super().__init__()
        self.down = nn.Linear(hidden, size, device=like.device)
        self.up = nn.Linear(size, hidden, device=like.device)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden_bth: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.up(nn.functional.gelu(self.down(hidden_bth.to(self.down.weight.dtype))))
        return result.to(hidden_bth.dtype)


class Bottlenecks:
    def __init__(self, options: api.Bottleneck) -> None:
        self._options = options

    def apply(self, base: nn.Module) -> nn.Module:
        base.requires_grad_(False)
        config: Any = base.config
        hidden = int(config.get_text_config().hidden_size)
        weight = next(base.parameters())
        found = list(self._places(base))
        if not found:
            raise SpecError(
                "spec.method.type",
                "Bottleneck",
                f"{type(base).__name__} has no blocks named {', '.join(_FEED_FORWARD + _ATTENTION)}; use LoRA",
            )
        for place in found:
            place.register_module(_NAME, Adapter(hidden, self._options.size, weight))
            place.register_forward_hook(_add)
        return base

    def _places(self, base: nn.Module) -> list[nn.Module]:
        wanted = _FEED_FORWARD + (_ATTENTION if self._options.style is BottleneckStyle.HOULSBY else ())
        layers = [m for m in base.modules() if isinstance(m, nn.ModuleList)]
        blocks = max(layers, key=len, default=nn.ModuleList())
        return [child for block in blocks for name, child in block.named_children() if name in wanted]

    def merge(self, model: Any) -> nn.Module:
        raise AssertionError("bottleneck adapters cannot be merged")

    def save_adapter(self, model: Any, folder: Path) -> None:
        from safetensors.torch import save_file

        state = {n: p.detach().contiguous().cpu() for n, p in model.named_parameters() if f".{_NAME}." in n}
        save_file(state, folder / WEIGHTS)
        about = {"peft_type": "BOTTLENECK", **self._options.to_wire()}
        (folder / CONFIG).write_text(json.dumps(about))

    def load_adapter(self, base: nn.Module, folder: Path) -> nn.Module:
        from safetensors.torch import load_file

        model = self.apply(base)
        state = load_file(folder / WEIGHTS)
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected
        assert not [name for name in missing if f".{_NAME}." in name]
        return model


def _add(module: nn.Module, _inputs: Any, output: Any) -> Any:
    adapter: Any = module.get_submodule(_NAME)
    if isinstance(output, tuple):
        return (output[0] + adapter(output[0]), *output[1:])
    return output + adapter(output)
