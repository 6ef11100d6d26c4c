"""Which weights train, in which precision, and words for modules that do not exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import LoRA
from finetune_trainer.checkpoint.snapshot import trainable_parameters
from finetune_trainer.common.errors import RunError, SpecError
from finetune_trainer.engine import model as engine
from finetune_trainer.engine.optim import make_optimizer
from finetune_trainer.methods.lora import lora_config
from tests.trainer import runs, tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("model"))


def spec(**changes: object) -> FineTuneJobSpec:
    return FineTuneJobSpec.model_validate(runs.spec(Path("/m"), Path("/d"), **changes))


def build(folder: Path, **changes: object) -> nn.Module:
    return engine.build(spec(**changes), folder, CPU)


def test_all_linear_means_all_but_the_head(folder: Path) -> None:
    model = build(folder)
    adapted = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name, p in model.named_parameters() if p.requires_grad}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert model.training


def test_named_modules_only(folder: Path) -> None:
    model = build(folder, method={"type": "LoRA", "lora": {"targetModules": ["q_proj", "v_proj"]}})
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert names
    assert all("q_proj" in name or "v_proj" in name for name in names)


def test_an_unknown_module_gets_words(folder: Path) -> None:
    with pytest.raises(SpecError, match=r"spec\.method\.lora\.targetModules.*q_prj.*q_proj"):
        build(folder, method={"type": "LoRA", "lora": {"targetModules": ["q_prj"]}})


def test_full_fine_tuning_trains_everything(folder: Path) -> None:
    model = build(folder, method={"type": "FullFineTune", "lora": None})
    assert all(p.requires_grad for p in model.parameters())


def test_new_parameters_follow_the_seed(folder: Path) -> None:
    def draw(seed: int) -> dict[str, torch.Tensor]:
        engine_seed(seed)
        return {name: p.detach().clone() for name, p in build(folder).named_parameters() if "lora_A" in name}

    from finetune_trainer.engine.seeding import seed_initialisation as engine_seed

    first, again, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_what_is_not_a_model_gets_words(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="base model cannot be loaded") as raised:
        build(tmp_path)
    assert raised.value.code == 66


def test_decay_is_for_matrices(folder: Path) -> None:
    document = spec(method={"type": "FullFineTune", "lora": None}, training={"optimizer": {"weightDecay": "0.1"}})
    optimizer = make_optimizer(document, trainable_parameters(engine.build(document, folder, CPU)), CPU)
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert all(p.ndim < 2 for p in spared["params"])
    assert decayed["lr"] == 5e-3


def test_rslora_scales_by_the_root_of_the_rank() -> None:
    config = lora_config(LoRA(rank=16, alpha=32, dropout="0.05", rslora=True))
    assert config.use_rslora
    assert (config.r, config.lora_alpha, config.lora_dropout) == (16, 32, 0.05)


@pytest.mark.parametrize(
    ("precision", "on_gpu"), [("BF16", torch.bfloat16), ("FP16", torch.float16), ("FP32", torch.float32)]
)
def test_what_is_frozen_rests_in_the_precision_of_training_on_a_gpu(precision: str, on_gpu: torch.dtype) -> None:
    wanted = spec(training={"precision": precision})
    assert engine.resting_type(wanted, torch.device("cuda")) == on_gpu
    assert engine.resting_type(wanted, CPU) == torch.float32
    pissa = spec(method={"type": "LoRA", "lora": {"init": "PiSSA"}}, training={"precision": precision})
    assert engine.resting_type(pissa, torch.device("cuda")) == torch.float32
    assert engine.computed_type(pissa, torch.device("cuda")) == on_gpu
