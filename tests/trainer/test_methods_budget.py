"""AdaLoRA's ranks: shared out as peft's allocator does, to the target and no further, and what is written of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_api.method import AdaLoRA
from finetune_trainer.common.errors import SpecError
from finetune_trainer.methods.adalora import Adaptive
from finetune_trainer.methods.budget import ADAPTER, adaptive_layers, budget_at
from finetune_trainer.methods.remember import memory_of
from tests.trainer import small

# peft 0.21 reads an attribute that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
OPTIONS = AdaLoRA(initial_rank=4, target_rank=2, warmup_percent=20, settled_percent=20, interval=2)
TOTAL = 10


def adapted() -> Any:
    torch.manual_seed(0)
    return Adaptive(OPTIONS).apply(small.model())


def update(model: Any, number: int) -> None:
    """As an optimizer's step leaves parameters and gradients; no two ranks matter alike."""
    drawn = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for _, parameter in sorted((n, p) for n, p in model.named_parameters() if p.requires_grad):
            parameter.grad = torch.randn(parameter.shape, generator=drawn)
            parameter.add_(torch.randn(parameter.shape, generator=drawn), alpha=0.1)


def values(model: Any) -> dict[str, torch.Tensor]:
    return {name: layer.lora_E[ADAPTER].detach().clone() for name, layer in adaptive_layers(model).items()}


def test_ranks_are_those_of_pefts_allocator() -> None:
    ours, theirs = adapted(), adapted()
    memory_of(ours).planned(TOTAL)
    config = theirs.peft_config[ADAPTER]
    config.total_step, config.tinit, config.tfinal, config.deltaT = TOTAL, 2, 2, 2
    for number in range(1, TOTAL + 1):
        for model in (ours, theirs):
            update(model, number)
        memory_of(ours).after_update()
        theirs.base_model.update_and_allocate(number)
        expected = values(theirs)
        assert all(torch.equal(value, expected[name]) for name, value in values(ours).items()), number
    kept = sum(int(value.count_nonzero()) for value in values(ours).values())
    assert kept == OPTIONS.target_rank * len(adaptive_layers(ours))


def test_another_process_goes_on_with_the_same_ranks() -> None:
    whole, second = adapted(), adapted()
    for model in (whole, second):
        memory_of(model).planned(TOTAL)
    for number in range(1, 6):
        update(whole, number)
        memory_of(whole).after_update()
    with torch.no_grad():
        for mine, other in zip(second.parameters(), whole.parameters(), strict=True):
            mine.copy_(other)
        for name, keys in memory_of(second).tensors().items():
            for key, tensor in keys.items():
                tensor.copy_(memory_of(whole).tensors()[name][key])
    for number in range(6, TOTAL + 1):
        for model in (whole, second):
            update(model, number)
            memory_of(model).after_update()
    assert all(torch.equal(value, values(whole)[name]) for name, value in values(second).items())


def test_the_budget_falls_from_all_to_the_target() -> None:
    shares = [budget_at(number, 100, AdaLoRA()) for number in range(101)]
    assert shares == sorted(shares, reverse=True)
    assert shares[10] == 1.0 > shares[11]
    assert shares[45] == pytest.approx(0.125)
    assert shares[79] > shares[80] == 0.0


@pytest.mark.parametrize("total", [1, 2, 3, 7])
@pytest.mark.parametrize(("first", "last"), [(0, 0), (99, 0), (0, 99), (49, 50)])
def test_however_few_steps_ranks_reach_the_target(total: int, first: int, last: int) -> None:
    options = AdaLoRA(warmup_percent=first, settled_percent=last)
    assert 0.0 in [budget_at(number, total, options) for number in range(1, total + 1)]


def test_it_is_written_as_a_plain_adapter_of_the_rank_that_is_left(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model, ids = adapted(), torch.arange(5, 25).unsqueeze(0)
    memory_of(model).planned(TOTAL)
    for number in range(1, TOTAL + 1):
        update(model, number)
        memory_of(model).after_update()
    method = Adaptive(OPTIONS)
    method.save_adapter(model, tmp_path)
    largest = max(int(value.count_nonzero()) for value in values(model).values())
    state = load_file(tmp_path / "adapter_model.safetensors")
    assert {len(tensor) for name, tensor in state.items() if ".lora_A." in name} == {largest}
    with torch.inference_mode():
        expected = model.eval()(input_ids=ids, use_cache=False).logits
        found = method.load_adapter(small.model(), tmp_path).eval()(input_ids=ids, use_cache=False).logits
    assert (found - expected).abs().max() < 1e-4 < (found - small.model().eval()(input_ids=ids).logits).abs().max()


def test_modules_the_model_lacks_get_words() -> None:
    with pytest.raises(SpecError, match="no such module"):
        Adaptive(AdaLoRA(target_modules=["nowhere"])).apply(small.model())
