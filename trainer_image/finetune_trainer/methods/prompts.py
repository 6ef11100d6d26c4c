"""Prompt, PTuning, Prefix and PTuningV2: what is trained stands before the text, in no weight of the model, so there is
nothing to merge. By peft.

Trained embeddings make every sequence longer. The loss and the published log-probabilities are asked at the text's own
positions, so the output head does not see the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from finetune_api import method as api
from finetune_trainer.methods.adapters import PeftAdapter, adapted

Options = api.Prefix | api.Prompt | api.PTuning | api.PTuningV2


class Prepended(PeftAdapter):
    def __init__(self, options: Options) -> None:
        self._options = options

    def apply(self, base: nn.Module) -> nn.Module:
        options = self._options
        return _hidden_from_the_head(
            adapted(base, prompt_config(options), "spec.method", options.to_wire()), options.virtual_tokens, options
        )

    def merge(self, model: Any) -> nn.Module:
        raise AssertionError("a prompt cannot be merged")

    def load_adapter(self, base: nn.Module, folder: Path) -> nn.Module:
        return _hidden_from_the_head(super().load_adapter(base, folder), self._options.virtual_tokens, self._options)


def prompt_config(options: Options) -> Any:
    from finetune_trainer.methods.peft_library import peft

    common: dict[str, Any] = {"num_virtual_tokens": options.virtual_tokens, "task_type": "CAUSAL_LM"}
    if isinstance(options, api.Prefix):
        return peft.PrefixTuningConfig(**common, encoder_hidden_size=options.hidden_size, prefix_projection=True)
    if isinstance(options, api.PTuningV2):
        return peft.PrefixTuningConfig(**common, prefix_projection=False)
    if isinstance(options, api.PTuning):
        return peft.PromptEncoderConfig(**common, encoder_hidden_size=options.hidden_size)
    return peft.PromptTuningConfig(**common)


def _hidden_from_the_head(model: nn.Module, count: int, options: Options) -> nn.Module:
    """Within the wrapper's forward pass; generation goes another way and takes the last position only."""
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[operator]
    if head is None or isinstance(options, api.Prefix | api.PTuningV2):
        return model
    inside: list[bool] = []

    def enter(_model: nn.Module, _inputs: Any) -> None:
        inside.append(True)

    def leave(_model: nn.Module, _inputs: Any, _output: Any) -> None:
        inside.clear()

    def cut(_head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0][:, count:], *inputs[1:]) if inside else inputs

    model.register_forward_pre_hook(enter)
    model.register_forward_hook(leave, always_call=True)
    head.register_forward_pre_hook(cut)
    return model
