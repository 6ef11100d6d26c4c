"""The page of usual sizes: its shapes are the models', and its answers make sense side by side."""

from __future__ import annotations

from itertools import pairwise

import pytest

from finetune_cli.sizes import COUNTS, GPUS, METHODS, SHAPES, estimated, smallest
from tests.trainer.shapes8b import llama_8b


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # As the models' cards and safetensors indexes count them.
        ("Llama 3.2 1B", 1_235_814_400),
        ("Llama 3.1 8B", 8_030_261_248),
        ("Qwen 2.5 32B", 32_763_876_352),
        ("Llama 3.1 70B", 70_553_706_496),
    ],
)
def test_a_shape_has_the_models_parameters(name: str, parameters: int) -> None:
    assert SHAPES[name].model().parameters == parameters


def test_a_shape_is_what_its_header_would_be_read_as() -> None:
    ours, read = SHAPES["Llama 3.1 8B"].model(), llama_8b()
    assert {(t.name, t.shape) for t in ours.tensors} == {(t.name, t.shape) for t in read.tensors}


def test_an_adapter_on_a_large_gpu_needs_no_second_one() -> None:
    found = smallest(SHAPES["Llama 3.1 8B"], "LoRA", "H100 80 GB")
    assert found is not None
    count, estimate = found
    assert (count, estimate.strategy, estimate.fits) == (1, "DDP", "True")


def test_what_does_not_fit_on_eight_is_not_promised() -> None:
    assert smallest(SHAPES["Llama 3.1 70B"], "FullFineTune", "H100 80 GB") is None


def test_larger_gpus_are_never_more_and_cheaper_methods_neither() -> None:
    """Of one size; the others are on the page, which a test keeps in step."""
    needed = {
        (method, gpu): (smallest(SHAPES["Llama 3.1 8B"], method, gpu) or (COUNTS[-1] + 1, None))[0]
        for method in METHODS
        for gpu in GPUS
    }
    for method in METHODS:
        assert all(needed[method, small] >= needed[method, large] for small, large in pairwise(GPUS))
    for gpu in GPUS:
        assert needed["QLoRA", gpu] <= needed["LoRA", gpu] <= needed["FullFineTune", gpu]


def test_the_answer_is_the_fewest() -> None:
    found = smallest(SHAPES["Llama 3.1 70B"], "LoRA", "H100 80 GB")
    assert found is not None
    assert estimated(SHAPES["Llama 3.1 70B"], "LoRA", "H100 80 GB", found[0] // 2).fits == "False"
