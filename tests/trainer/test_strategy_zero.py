"""What DeepSpeed is asked for, and how a model is prepared for it. Training under it: test_strategy_resume.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.engine.strategy.zero_start import config, elements, give_shapes


def spec(**changes: Any) -> FineTuneJobSpec:
    document: dict[str, Any] = {
        "model": {"uri": "file:///base"},
        "data": {"train": [{"uri": "file:///train.jsonl"}]},
        "method": {"type": "FullFineTune"},
    }
    return FineTuneJobSpec.model_validate(document | changes)


@pytest.mark.parametrize(("stage", "asked"), [(1, {"offload_optimizer"}), (3, {"offload_optimizer", "offload_param"})])
def test_offload_takes_the_optimizer_and_in_stage_3_the_parameters(stage: int, asked: set[str]) -> None:
    made = config(spec(parallelism={"strategy": f"ZeRO{stage}", "offload": True}), stage, 1000)["zero_optimization"]
    assert {key for key in made if key.startswith("offload")} == asked
    plain = config(spec(parallelism={"strategy": f"ZeRO{stage}"}), stage, 1000)["zero_optimization"]
    assert not [key for key in plain if key.startswith("offload")]


def test_clipping_and_accumulation_are_the_loops_and_the_optimizer_is_ours() -> None:
    made = config(spec(), 2, 1000)
    assert "gradient_clipping" not in made
    assert made["gradient_accumulation_steps"] == 1
    assert made["zero_allow_untested_optimizer"]
    assert not made["zero_force_ds_cpu_optimizer"]


def test_bf16_is_computed_in_and_nothing_is_sent_in_it() -> None:
    assert config(spec(training={"precision": "BF16"}), 3, 1000)["torch_autocast"] == {
        "enabled": True,
        "dtype": "bfloat16",
        "lower_precision_safe_modules": [],
    }
    assert "torch_autocast" not in config(spec(training={"precision": "FP32"}), 3, 1000)


@pytest.mark.parametrize(("trainable", "bucket"), [(1, 2), (1001, 1002), (10**10, 25_000_000)])
def test_buckets_are_even_and_no_larger_than_what_is_trained(trainable: int, bucket: int) -> None:
    made = config(spec(), 1, trainable)["zero_optimization"]
    assert (made["reduce_bucket_size"], made["allgather_bucket_size"]) == (bucket, bucket)


def test_parameters_without_storage_get_a_shape_and_stay_tied() -> None:
    with torch.device("meta"):
        model = nn.ModuleDict({"embed": nn.Embedding(7, 5), "norm": nn.LayerNorm(5), "head": nn.Linear(5, 7, False)})
    model["head"].weight = model["embed"].weight
    model["norm"].weight.requires_grad = False
    give_shapes(model)
    assert model["head"].weight is model["embed"].weight
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "embed.weight": (7, 5),
        "norm.weight": (5,),
        "norm.bias": (5,),
    }
    assert [p.requires_grad for p in model.parameters()] == [True, False, True]
    assert {p.untyped_storage().nbytes() for p in model.parameters()} == {4}


def test_a_cut_parameter_counts_whole() -> None:
    cut = nn.Parameter(torch.empty(0))
    cut.ds_numel = 35  # type: ignore[attr-defined]
    assert (elements(cut), elements(nn.Parameter(torch.empty(3, 2)))) == (35, 6)
