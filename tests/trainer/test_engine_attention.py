"""Each choice is transformers' name for it, or says in words why this machine cannot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from finetune_api.speed import Attention
from finetune_trainer.common.errors import SpecError
from finetune_trainer.engine import attention
from finetune_trainer.engine.attention import candidates, first_supported
from finetune_trainer.engine.model import Form
from finetune_trainer.engine.model import build as build_model
from tests.trainer import small

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def asked(name: str, **training: Any) -> Any:
    return small.config(Path("/x"), {"model": {"attention": name}, "training": training}).spec


@pytest.mark.parametrize(
    ("name", "expected"), [("Auto", ("sdpa", "eager")), ("SDPA", ("sdpa",)), ("Eager", ("eager",))]
)
def test_what_every_machine_can(name: str, expected: tuple[str, ...]) -> None:
    assert candidates(asked(name), CPU) == expected


@pytest.mark.parametrize("name", ["FlashAttention2", "Flex"])
def test_a_cpu_is_told_so(name: str) -> None:
    with pytest.raises(SpecError, match=rf"spec\.model\.attention: '{name}' cannot be used: .*CPU; use Auto"):
        candidates(asked(name), CPU)


def test_flash_needs_its_package_16_bits_and_a_gpu_that_is_new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    flash = "FlashAttention2"
    monkeypatch.setattr(attention, "find_spec", lambda _name: None)
    with pytest.raises(SpecError, match=r"no package flash-attn.*spec\.trainer\.image"):
        candidates(asked(flash, precision="BF16"), GPU)
    with pytest.raises(SpecError, match=re.escape("training.precision: BF16")):
        candidates(asked(flash, precision="FP32"), GPU)
    monkeypatch.setattr(attention, "find_spec", lambda _name: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 5))
    with pytest.raises(SpecError, match=r"capability 8\.0"):
        candidates(asked(flash, precision="BF16"), GPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    assert candidates(asked(flash, precision="BF16"), GPU) == ("flash_attention_2",)


def test_flex_on_a_gpu() -> None:
    assert candidates(asked("Flex"), GPU) == ("flex_attention",)


def test_auto_takes_eager_where_a_model_has_no_sdpa_and_hides_no_other_mistake() -> None:
    def make(name: str) -> nn.Module:
        if name == "sdpa":
            raise ValueError("X does not support ... torch.nn.functional.scaled_dot_product_attention yet.")
        return nn.Linear(1, 1)

    assert isinstance(first_supported(("sdpa", "eager"), make), nn.Linear)
    with pytest.raises(ValueError, match="scaled_dot_product"):
        first_supported(("sdpa",), make)

    def broken(_name: str) -> nn.Module:
        raise ValueError("a config that cannot be read")

    with pytest.raises(ValueError, match="cannot be read"):
        first_supported(("sdpa", "eager"), broken)


@pytest.mark.parametrize("name", [Attention.SDPA, Attention.EAGER])
def test_the_model_computes_with_what_was_asked(name: Attention, tmp_path: Path) -> None:
    small.save_model(tmp_path / "base")
    spec = small.config(tmp_path, {"model": {"attention": name.value}, "method": small.FULL}).spec
    model = build_model(spec, tmp_path / "base", CPU, Form(attention=candidates(spec, CPU)))
    assert model.config._attn_implementation == name.value.lower()  # type: ignore[union-attr]
