"""The estimate's counts are the real model's; its bytes follow the formulas."""

from pathlib import Path
from typing import Any

import pytest

from finetune_api.finetunejob import LoRA
from finetune_artifacts import open_store
from finetune_trainer.model.estimate import ALL_LINEAR, activation_bytes, estimate, lora_targets, trainable_parameters
from finetune_trainer.model.inspect import ModelInfo, inspect_model
from finetune_trainer.model.quantity import human_bytes, parse_quantity
from tests.trainer import small

# peft 0.21 reads an attribute that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    store = open_store(f"file://{small.save_model(tmp_path_factory.mktemp('model'))}")
    return inspect_model(store, list(store.list()))


@pytest.mark.parametrize("targets", [[ALL_LINEAR], ["q_proj", "v_proj"], ["model.layers.1.mlp.up_proj"]])
def test_trainable_parameters_are_those_peft_makes(model: ModelInfo, targets: list[str]) -> None:
    from finetune_trainer.engine.model import add_lora

    lora = LoRA(rank=3, alpha=6, target_modules=targets)
    adapted: Any = add_lora(small.model(), lora)
    real = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    spec = small.config(Path("/x"), {"method": {"lora": lora.to_wire()}}).spec
    assert trainable_parameters(model, spec) == real
    assert len(lora_targets(model.tensors, lora)) == real_targets(adapted)


def real_targets(adapted: Any) -> int:
    return sum(name.endswith(".lora_A.default.weight") for name, _ in adapted.named_parameters())


def test_full_fine_tuning_trains_everything(model: ModelInfo) -> None:
    spec = small.config(Path("/x"), {"method": small.FULL}).spec
    assert trainable_parameters(model, spec) == model.parameters == small.model().num_parameters()


def test_adam_costs_16_bytes_a_trained_parameter_and_4_a_frozen_one(model: ModelInfo) -> None:
    full = estimate(model, small.config(Path("/x"), {"method": small.FULL}).spec, micro_batch=1)
    lora = estimate(model, small.config(Path("/x")).spec, micro_batch=1)
    difference = 16 * model.parameters - (16 * lora.trainable + 4 * model.parameters)
    assert full.memory_per_rank - lora.memory_per_rank == pytest.approx(1.1 * difference, abs=2)
    assert full.checkpoint == 12 * model.parameters


def test_activations_grow_with_batch_and_length_and_halve_with_bf16(model: ModelInfo) -> None:
    one = activation_bytes(model, micro_batch=1, length=100, half=False)
    assert one == 100 * (2 * 64 * 34 * 2 + 1024 * 8)
    assert activation_bytes(model, micro_batch=4, length=50, half=False) == 2 * one
    assert activation_bytes(model, micro_batch=1, length=100, half=True) == 100 * (2 * 64 * 34 + 1024 * 8)


@pytest.mark.parametrize(
    ("text", "number"), [("2Gi", 2 * 1024**3), ("500m", 0.5), (4, 4), ("1.5G", 1.5e9), ("64Mi", 64 * 1024**2)]
)
def test_quantities(text: int | str, number: float) -> None:
    assert parse_quantity(text) == number


def test_what_is_no_quantity_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="'2 GB' is not a quantity"):
        parse_quantity("2 GB")


def test_bytes_for_people() -> None:
    assert [human_bytes(n) for n in (5, 2048, 3 << 20, 5 << 40)] == ["5 B", "2.0 KiB", "3.0 MiB", "5.0 TiB"]
