"""What methods that peft implements have in common: its warnings, its errors in our words, loading what it saved."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from finetune_api.method import ALL_LINEAR
from finetune_trainer.common.errors import SpecError
from finetune_trainer.engine.mode import answering


def adapted(base: nn.Module, config: Any, field: str, value: object) -> nn.Module:
    """`base` with peft's layers in it. Raises SpecError naming `field` for what peft does not take."""
    from finetune_trainer.methods.peft_library import peft

    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 for a property by its old name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            model: nn.Module = peft.get_peft_model(base, config)
    except ValueError as error:
        raise SpecError(field, value, str(error)) from error
    return model


def peft_targets(modules: Sequence[str]) -> str | list[str]:
    """As peft wants to be told which modules get an adapter."""
    return "all-linear" if list(modules) == [ALL_LINEAR] else list(modules)


@contextmanager
def adapter_off(model: Any) -> Iterator[nn.Module]:
    """Within, the model answers as its base does, without dropout or noise."""
    with answering(model), model.disable_adapter():
        yield model


class PeftAdapter:
    """How every adapter of peft's is written and read."""

    def save_adapter(self, model: Any, folder: Path) -> None:
        model.save_pretrained(folder)

    def load_adapter(self, base: nn.Module, folder: Path) -> nn.Module:
        from finetune_trainer.methods.peft_library import peft

        return peft.PeftModel.from_pretrained(base, str(folder))  # type: ignore[no-any-return]


def require_modules(base: nn.Module, wanted: Sequence[str], field: str) -> None:
    """Raises SpecError with the names that there are: peft asks only that one of several matches."""
    if list(wanted) == [ALL_LINEAR]:
        return
    linear = sorted({name.rsplit(".", 1)[-1] for name, m in base.named_modules() if isinstance(m, nn.Linear)})
    names = [name for name, _ in base.named_modules()]
    for one in wanted:
        if not any(name == one or name.endswith(f".{one}") for name in names):
            raise SpecError(field, one, f"the model has no such module; it has {', '.join(linear)}")
