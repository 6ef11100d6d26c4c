"""Quantized layers: how far their values are off, that products and gradients are those of the dequantized weight, and
what a merge makes of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from finetune_api.method import Init, LoRA, Quantization, QuantType
from finetune_trainer.common.errors import SpecError
from finetune_trainer.methods.lora import LowRank
from finetune_trainer.methods.qlora import QuantizedLowRank
from finetune_trainer.methods.quantize import Quantized, dequantize, quantize
from finetune_trainer.model.estimate.quantized import layer_bytes
from tests.trainer import small

# peft 0.21 reads an attribute that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
IDS = torch.arange(5, 25).unsqueeze(0)
KINDS = [
    Quantization(),
    Quantization(type=QuantType.FP4),
    Quantization(double_quant=False),
    Quantization(bits=8),
]


def layer(bias: bool = False) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(128, 96, bias=bias)


def logits(model: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return found


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_values_are_off_by_no_more_than_half_a_step(kind: Quantization) -> None:
    """Uniform values: the largest gap between NF4's codes is 0.304 of the scale, between FP4's a third; INT8's 1/127.
    Rounding to bf16 comes to that."""
    plain = layer()
    off = (Quantized(plain, kind).dequantized(torch.float32) - plain.weight).abs().max() / plain.weight.abs().max()
    assert 0 < off < (0.007 if kind.kind is QuantType.INT8 else 0.18)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_product_and_gradient_are_the_dequantized_weights(kind: Quantization) -> None:
    quantized, x_bi = Quantized(layer(bias=True), kind), torch.randn(3, 128, requires_grad=True)
    twin = x_bi.detach().clone().requires_grad_()
    found, expected = quantized(x_bi), nn.functional.linear(twin, quantized.dequantized(torch.float32), quantized.bias)
    assert torch.allclose(found, expected, atol=1e-6)
    torch.autograd.backward(found.square().sum())
    torch.autograd.backward(expected.square().sum())
    assert x_bi.grad is not None
    assert twin.grad is not None
    assert torch.allclose(x_bi.grad, twin.grad, atol=1e-5)
    assert not quantized.weight.requires_grad


def test_it_computes_in_the_precision_of_training() -> None:
    quantized, x_bi = Quantized(layer(), Quantization()), torch.randn(3, 128, requires_grad=True)
    assert quantized(x_bi).dtype is torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = quantized(x_bi)
    assert found.dtype is torch.bfloat16
    torch.autograd.backward(found.float().sum())
    assert x_bi.grad is not None
    assert x_bi.grad.dtype is torch.float32


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_codes_do_not_depend_on_the_precision_the_base_was_loaded_in(kind: Quantization) -> None:
    """The trainer loads it in bf16 on a GPU, the publisher in fp32."""
    found = Quantized(layer(), kind), Quantized(layer().bfloat16(), kind)
    assert torch.equal(found[0].weight, found[1].weight)
    assert torch.equal(found[0].dequantized(torch.float32), found[1].dequantized(torch.float32))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_casting_the_model_leaves_codes_and_scales_alone(kind: Quantization) -> None:
    quantized = Quantized(layer(), kind)
    before = quantized.dequantized(torch.float32)
    assert torch.equal(quantized.to(torch.bfloat16).dequantized(torch.float32), before)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_estimate_counts_its_bytes(kind: Quantization) -> None:
    quantized: Any = Quantized(layer(), kind)
    scales = quantized._scales
    held = quantized.weight.numel()
    if kind.kind is QuantType.INT8:
        held += 4 * scales.numel()
    else:
        held += scales.absmax.numel() * scales.absmax.element_size()
        held += 4 * scales.state2.absmax.numel() if scales.nested else 0
    assert layer_bytes(96, 128, kind) == held


def test_all_but_the_head_and_what_trains_whole_is_quantized_and_comes_back() -> None:
    model: Any = small.model()
    quantize(model, Quantization(), whole=["up_proj"])
    kinds = {name.rpartition(".")[2]: type(m) for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    assert {name for name, kind in kinds.items() if kind is nn.Linear} == {"lm_head", "up_proj"}
    before = logits(model)
    dequantize(model)
    assert not any(isinstance(m, Quantized) for m in model.modules())
    assert torch.allclose(logits(model), before, atol=1e-5)


def test_the_merge_is_right_with_the_dequantized_base_and_wrong_with_the_base() -> None:
    def adapted(method: LowRank) -> Any:
        model = method.apply(small.model())
        torch.manual_seed(3)
        with torch.no_grad():
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.copy_(torch.randn_like(parameter) * 0.05)
        return model

    lora = LoRA(rank=4)
    method, plain = QuantizedLowRank(lora, Quantization()), LowRank(lora)
    trained = adapted(method)
    expected, other = logits(trained), logits(adapted(plain))
    assert (logits(method.merge(trained)) - expected).abs().max() < 1e-5
    assert (other - expected).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_loftq_starts_from_the_best_that_its_rank_can_make_up_for(kind: Quantization) -> None:
    """Against the singular value decomposition of what was lost (Eckart and Young 1936)."""
    base: Any = small.model()
    lora = LoRA(rank=8, alpha=24, init=Init.LOFTQ, rslora=True)
    weight = base.model.layers[0].mlp.up_proj.weight.detach().bfloat16().float()
    model: Any = QuantizedLowRank(lora, kind).apply(base)
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    lost = weight - layer.base_layer.dequantized(torch.float32)
    left = lost - layer.get_delta_weight("default").detach()
    best = torch.linalg.svdvals(lost)[8:].square().sum().sqrt()
    assert best <= left.norm() * 1.0001
    assert left.norm() < 1.02 * best < lost.norm()


def test_loftq_starts_nearer_to_the_base_and_the_same_from_either_precision() -> None:
    def started(init: Init, dtype: torch.dtype = torch.float32) -> Any:
        return QuantizedLowRank(LoRA(rank=16, init=init), Quantization()).apply(small.model().to(dtype)).float()

    base = logits(small.model())
    plain, made_up = (logits(started(init)) for init in (Init.DEFAULT, Init.LOFTQ))
    assert (made_up - base).norm() < 0.9 * (plain - base).norm()
    first, second = (dict(started(Init.LOFTQ, dtype).named_parameters()) for dtype in (torch.float32, torch.bfloat16))
    assert all(torch.equal(p, second[name]) for name, p in first.items() if "lora_A" in name)


def test_a_model_without_linear_layers_gets_words() -> None:
    with pytest.raises(SpecError, match="no linear layers to quantize; use LoRA"):
        quantize(nn.Embedding(4, 4), Quantization())
