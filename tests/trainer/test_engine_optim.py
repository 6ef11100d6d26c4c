"""Optimizers do what their papers (and the libraries that have them) do; layers get the rate that the formula says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.checkpoint.held import hold
from finetune_trainer.checkpoint.snapshot import copy
from finetune_trainer.engine.optim import layer_scales, make_optimizer, prepare, set_rate
from tests.trainer import runs

CPU = torch.device("cpu")
TYPES = ("AdamW", "AdamW8bit", "Lion", "Adafactor")
RATE = 1e-2


def optimizer_of(parameters: dict[str, nn.Parameter], **wanted: Any) -> torch.optim.Optimizer:
    document = runs.spec(Path("/m"), Path("/d"), training={"learningRate": str(RATE), "optimizer": wanted})
    return make_optimizer(FineTuneJobSpec.model_validate(document), parameters, CPU)


def parameters(*, large: bool = False) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    width = 128 if large else 12
    shapes = {"layers.0.weight": (width, 40), "layers.0.bias": (width,), "cube": (2, 3, 5)}
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}


def descend(held: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Gradients are a function of the step."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in held.values():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def equal(ours: dict[str, nn.Parameter], theirs: dict[str, nn.Parameter], tolerance: float = 1e-6) -> bool:
    return all(torch.allclose(ours[name], theirs[name], rtol=tolerance, atol=tolerance) for name in theirs)


def _lion(group: list[nn.Parameter]) -> torch.optim.Optimizer:
    from bitsandbytes.optim import Lion

    made: torch.optim.Optimizer = Lion(group, lr=RATE, betas=(0.9, 0.99), weight_decay=0.0)
    return made


def _adafactor(group: list[nn.Parameter]) -> torch.optim.Optimizer:
    return transformers.Adafactor(group, lr=RATE, scale_parameter=False, relative_step=False, warmup_init=False)


def _adamw8bit(group: list[nn.Parameter]) -> torch.optim.Optimizer:
    from bitsandbytes.optim import AdamW8bit

    made: torch.optim.Optimizer = AdamW8bit(group, lr=RATE, betas=(0.9, 0.999), weight_decay=0.0)
    return made


@pytest.mark.parametrize(("name", "make"), [("Lion", _lion), ("Adafactor", _adafactor), ("AdamW8bit", _adamw8bit)])
def test_it_takes_the_librarys_steps(name: str, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> None:
    ours, theirs = parameters(large=True), parameters(large=True)
    descend(ours, optimizer_of(ours, type=name), range(5))
    descend(theirs, make(list(theirs.values())), range(5))
    assert equal(ours, theirs)
    assert not equal(ours, parameters(large=True), 1e-3)


@pytest.mark.parametrize("name", TYPES)
def test_matrices_decay_and_vectors_do_not(name: str) -> None:
    plain, decayed = parameters(), parameters()
    descend(plain, optimizer_of(plain, type=name), range(1))
    descend(decayed, optimizer_of(decayed, type=name, weightDecay="0.5"), range(1))
    start = parameters()
    assert torch.allclose(decayed["cube"], plain["cube"] - RATE * 0.5 * start["cube"], atol=1e-6)
    assert torch.equal(decayed["layers.0.bias"], plain["layers.0.bias"])


@pytest.mark.parametrize("name", TYPES)
def test_all_it_remembers_is_held_and_a_restored_one_goes_on_bit_for_bit(name: str) -> None:
    whole = parameters(large=True)
    descend(whole, optimizer_of(whole, type=name), range(6))

    first = parameters(large=True)
    optimizer = optimizer_of(first, type=name)
    descend(first, optimizer, range(3))
    trainable, states, parts = copy(hold(first, optimizer))
    assert not parts

    second = parameters(large=True)
    restored = optimizer_of(second, type=name)
    prepare(second, restored)
    held = hold(second, restored)
    assert {f"{n}.{k}" for n, piece in held.items() for k in piece.state} == states.keys()
    with torch.no_grad():
        for n, piece in held.items():
            piece.local.copy_(trainable[n])
            for key, value in piece.state.items():
                assert piece.whole_shape(value) == tuple(states[f"{n}.{key}"].shape)
                value.copy_(states[f"{n}.{key}"])
    descend(second, restored, range(3, 6))
    assert all(torch.equal(second[n], whole[n]) for n in whole)


def test_eight_bits_are_a_quarter_of_the_state_and_close_to_adamw() -> None:
    def state(name: str) -> int:
        held = {"weight": nn.Parameter(torch.zeros(256, 256))}
        optimizer = optimizer_of(held, type=name)
        prepare(held, optimizer)
        return sum(t.numel() * t.element_size() for t in hold(held, optimizer)["weight"].state.values())

    sizes = {name: state(name) for name in TYPES}
    assert sizes["AdamW8bit"] < 0.27 * sizes["AdamW"]
    assert sizes["Lion"] == 4 * 256 * 256
    assert sizes["Adafactor"] == 4 * (256 + 256) + 4


def test_unknown_state_is_an_error_not_a_loss() -> None:
    held = parameters()
    optimizer = torch.optim.SGD(held.values(), lr=0.1, momentum=0.9)
    descend(held, optimizer, range(1))
    with pytest.raises(AssertionError, match="momentum_buffer"):
        hold(held, optimizer)


def test_betas_and_epsilon_are_the_specs() -> None:
    group = optimizer_of(parameters(), type="AdamW", beta1="0.8", beta2="0.95", epsilon="1e-6").param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.8, 0.95), 1e-6)
    assert optimizer_of(parameters(), type="Lion").param_groups[0]["betas"] == (0.9, 0.99)


NAMES = ["model.embed_tokens.weight", "model.layers.0.mlp.experts.7.up.weight", "model.layers.1.q.weight",
         "model.norm.weight", "lm_head.weight"]  # fmt: skip


def test_layers_get_a_smaller_share_the_deeper_they_lie() -> None:
    assert list(layer_scales(NAMES, 0.5).values()) == [0.125, 0.25, 0.5, 1.0, 1.0]
    adapters = [f"base_model.model.{name.removesuffix('.weight')}.lora_A.default.weight" for name in NAMES[1:3]]
    assert list(layer_scales(adapters, 0.5).values()) == [0.25, 0.5]


def test_the_schedule_moves_every_layers_rate() -> None:
    held = {name: nn.Parameter(torch.ones(2, 2)) for name in NAMES}
    optimizer = optimizer_of(held, type="AdamW", layerwiseDecay="0.5")
    assert [group["lr"] / RATE for group in optimizer.param_groups] == [1.0, 0.5, 0.25, 0.125]
    set_rate(optimizer, 8.0)
    assert [group["lr"] for group in optimizer.param_groups] == [8.0, 4.0, 2.0, 1.0]
    descend(held, optimizer, range(1))
