"""The estimate's counts are the real model's; its decisions follow from its bytes and say so."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import ALL_LINEAR, LoRA
from finetune_api.parallelism import StrategyName
from finetune_api.running import Resources
from finetune_artifacts import open_store
from finetune_trainer.engine.plan import plan_batches
from finetune_trainer.model.estimate.choose import (
    RECOMPUTED,
    choose_setting,
    choose_strategy,
    nearest_fits,
    setting_for,
)
from finetune_trainer.model.estimate.gpus import find_gpu
from finetune_trainer.model.estimate.judge import Judgement, judge
from finetune_trainer.model.estimate.memory import memory
from finetune_trainer.model.estimate.shapes import lora_targets
from finetune_trainer.model.estimate.speed import ASSUMED_BANDWIDTH, flops_per_token, notice_fits
from finetune_trainer.model.estimate.trained import frozen_parameters, trainable_parameters
from finetune_trainer.model.inspect import ModelInfo, inspect_model
from finetune_trainer.model.quantity import human_bytes, parse_quantity
from tests.trainer import small
from tests.trainer.shapes8b import llama_8b

# peft 0.21 reads an attribute that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
GIB = 1 << 30
H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    store = open_store(f"file://{small.save_model(tmp_path_factory.mktemp('model'))}")
    return inspect_model(store, list(store.list()))


@pytest.mark.parametrize("targets", [[ALL_LINEAR], ["q_proj", "v_proj"], ["model.layers.1.mlp.up_proj"]])
def test_trainable_parameters_are_those_peft_makes(model: ModelInfo, targets: list[str]) -> None:
    from finetune_trainer.methods.lora import add_lora

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


@pytest.mark.parametrize("method", [small.FULL, {"type": "LoRA", "lora": {"rank": 4}}])
def test_a_head_that_foresees_trains_beside_the_model(model: ModelInfo, method: dict[str, Any]) -> None:
    ppo = {"type": "PPO", "ppo": {"rewards": [{"type": "ExactMatch"}], "updates": 3}}
    plain, taught = (small.config(Path("/x"), {"method": method, **more}).spec for more in ({}, {"objective": ppo}))
    hidden = small.model().config.hidden_size
    assert trainable_parameters(model, taught) == trainable_parameters(model, plain) + hidden + 1
    assert frozen_parameters(model, taught) == frozen_parameters(model, plain)
    once = flops_per_token(model, plain, length=64)
    assert 3 * once < flops_per_token(model, taught, length=64) < 3.6 * once


def big(full: bool = False, gpus: int = 1, micro: int = 1, **spec: Any) -> FineTuneJobSpec:
    document = {
        "method": small.FULL if full else {"type": "LoRA", "lora": {"rank": 16}},
        "data": {"maxLength": 4096},
        "training": {"precision": "BF16", "microBatchSize": micro, "globalBatchSize": 64},
        "resources": {"gpusPerNode": gpus, "nodeSelector": H100},
    }
    return small.config(Path("/x"), small.merged(document, spec)).spec


def judged(spec: FineTuneJobSpec) -> Judgement:
    world = spec.resources.nodes * max(1, spec.resources.gpus_per_node)
    return judge(llama_8b(), spec, plan_batches(spec.training, 10_000, world, on_gpu=True))


def test_8b_full_keeps_32_bit_weights_gradients_and_moments() -> None:
    spec = big(full=True)
    parts = judged(spec).parts
    count = 8_030_261_248
    assert (parts.weights, parts.gradients, parts.optimizer) == (4 * count, 4 * count, 8 * count)
    assert judged(spec).estimate.checkpoint_bytes == 12 * count
    assert 130 * GIB < parts.total < 200 * GIB


def test_8b_lora_rests_in_16_bits_and_fits_an_80_gib_gpu() -> None:
    found = judged(big())
    assert found.parts.weights == 2 * 8_030_261_248 + 4 * 41_943_040
    assert found.estimate.fits == "True"
    assert found.estimate.notice_fits == "True"
    assert found.estimate.checkpoint_bytes == 12 * 41_943_040
    assert 30 * GIB < found.estimate.memory_per_gpu_bytes < 70 * GIB


def test_fp16_needs_what_bf16_needs_and_is_as_fast() -> None:
    for full in (False, True):
        bf16, fp16 = (judged(big(full=full, training={"precision": precision})) for precision in ("BF16", "FP16"))
        assert fp16 == bf16


def test_shards_divide_the_state_and_not_the_activations() -> None:
    spec, found = big(full=True, gpus=8), llama_8b()
    sizes = {"world": 8, "per_node": 8, "micro_batch": 1, "accumulation": 8}
    whole = memory(found, spec, setting_for(spec, StrategyName.DDP, **sizes))
    cut = memory(found, spec, setting_for(spec, StrategyName.FSDP, **sizes))
    assert (cut.weights, cut.gradients, cut.optimizer) == tuple(
        n // 8 for n in (whole.weights, whole.gradients, whole.optimizer)
    )
    assert cut.activations == whole.activations
    offloaded = memory(found, spec, replace(setting_for(spec, StrategyName.FSDP, **sizes), offload=True))
    assert (offloaded.weights, offloaded.optimizer) == (0, 0)


def test_zero_cuts_more_with_each_stage_and_needs_more_beside_it_than_fsdp() -> None:
    spec, found = big(full=True, gpus=8), llama_8b()
    sizes = {"world": 8, "per_node": 8, "micro_batch": 1, "accumulation": 8}
    names = (StrategyName.DDP, StrategyName.ZERO1, StrategyName.ZERO2, StrategyName.ZERO3, StrategyName.FSDP)
    ddp, one, two, three, fsdp = (memory(found, spec, setting_for(spec, name, **sizes)) for name in names)
    assert ddp.total > one.total > two.total > three.total > fsdp.total
    assert one.optimizer == two.optimizer == three.optimizer == ddp.optimizer // 8
    # The whole and its eighth, which DeepSpeed steps on; then two eighths.
    assert one.weights == two.weights == ddp.weights + ddp.weights // 8
    assert (one.gradients, two.gradients) == (ddp.gradients + ddp.gradients // 8, ddp.gradients // 8)
    assert (three.weights, three.gradients) == (2 * (ddp.weights // 8), 2 * (ddp.gradients // 8))


def test_zero_offloads_what_the_optimizer_steps_on_and_stage_3_parameters_too() -> None:
    spec, found = big(full=True, gpus=8), llama_8b()
    sizes = {"world": 8, "per_node": 8, "micro_batch": 1, "accumulation": 8}
    ddp = memory(found, spec, setting_for(spec, StrategyName.DDP, **sizes))
    two, three = (
        memory(found, spec, replace(setting_for(spec, name, **sizes), offload=True))
        for name in (StrategyName.ZERO2, StrategyName.ZERO3)
    )
    assert (two.weights, two.gradients, two.optimizer) == (ddp.weights, 0, 0)
    assert (three.weights, three.gradients, three.optimizer) == (0, 0, 0)


@pytest.mark.parametrize(
    ("world", "capacity", "on_gpu", "expected", "words"),
    [
        (1, 80 * GIB, True, "DDP", "nobody to share with"),
        (2, None, False, "DDP", "on CPU"),
        (8, 300 * GIB, True, "DDP", "it fits: about"),
        (8, 80 * GIB, True, "FSDP", "of 80.0 GiB; FSDP over 8 needs"),
        (8, None, True, "DDP", "the trainer decides again"),
    ],
)
def test_auto_is_the_first_that_fits_and_says_why(
    world: int, capacity: int | None, on_gpu: bool, expected: str, words: str
) -> None:
    name, why = choose_strategy(
        llama_8b(),
        big(full=True, gpus=world),
        world=world,
        micro_batch=1,
        accumulation=1,
        capacity=capacity,
        on_gpu=on_gpu,
    )
    assert name == expected
    assert words in why


def test_what_is_held_against_forgetting_is_counted_and_keeps_weights_whole() -> None:
    data, sizes = {"uri": "s3://team-a/kept.jsonl"}, {"world": 8, "per_node": 8, "micro_batch": 1, "accumulation": 8}
    found = llama_8b()

    def buffers(retention: dict[str, Any]) -> int:
        spec = big(full=True, gpus=8, retention=retention)
        return memory(found, spec, setting_for(spec, StrategyName.DDP, **sizes)).buffers

    without = buffers({"replay": {"data": data, "percent": 10}})
    assert buffers({"l2sp": "1"}) == without + 4 * found.parameters
    ewc = {"ewc": {"data": data, "lambda": "10"}}
    assert buffers({**ewc, "l2sp": "1", "klToBase": {"data": data, "weight": "1"}}) == without + 12 * found.parameters
    too_big = judged(big(full=True, gpus=8, retention=ewc))
    assert (too_big.estimate.strategy, too_big.estimate.fits) == ("DDP", "False")
    assert not [words for words in too_big.nearest if "FSDP" in words or "LoRA" in words]


def test_a_named_strategy_is_not_second_guessed() -> None:
    spec = big(full=True, gpus=8, parallelism={"strategy": "DDP"})
    found = judged(spec).estimate
    assert (found.strategy, found.fits) == ("DDP", "False")


def test_what_would_fit_does_fit_and_is_named_once_of_each_kind() -> None:
    kept = {"training": {"activationCheckpointing": "None"}}
    found = judged(big(micro=8, **kept))
    assert found.estimate.fits == "False"
    assert [n.partition(" (")[0] for n in found.nearest] == [
        "training.microBatchSize: 1",
        "training.activationCheckpointing: Full",
        "training.microBatchSize: 1 and FSDP over 2 GPUs",
        "training.microBatchSize: 1 and data.maxLength: 2048",
    ]
    assert judged(big(micro=1, **kept)).estimate.fits == "True"
    assert judged(big(micro=2, **kept)).estimate.fits == "False"


def test_auto_computes_activations_again_only_where_they_do_not_fit() -> None:
    roomy, tight = judged(big(micro=1)).estimate, judged(big(micro=8)).estimate
    assert (roomy.fits, tight.fits) == ("True", "True")
    assert "computed again" not in (roomy.strategy_why or "")
    assert "computed again" in (tight.strategy_why or "")


def test_auto_computes_cheap_activations_again_before_it_computes_all_again() -> None:
    found, spec = llama_8b(), big(micro=4)
    sizes: dict[str, Any] = {"world": 1, "per_node": 1, "micro_batch": 4, "accumulation": 1}
    plain = setting_for(spec, StrategyName.DDP, **sizes)
    needed = {how: memory(found, spec, replace(plain, recompute=how)).total for how in RECOMPUTED}
    selective, full = RECOMPUTED
    assert memory(found, spec, plain).total > needed[selective] > needed[full]
    for capacity, wanted in ((needed[selective], selective), (needed[selective] - 1, full)):
        chosen, why = choose_setting(found, spec, **sizes, capacity=capacity, on_gpu=True)
        assert chosen.recompute is wanted
        assert "computed again" in why


def test_a_compiler_is_left_to_choose_what_is_cheap() -> None:
    found, spec = llama_8b(), big(micro=4, training={"compile": True})
    sizes: dict[str, Any] = {"world": 1, "per_node": 1, "micro_batch": 4, "accumulation": 1}
    plain = setting_for(spec, StrategyName.DDP, **sizes)
    cheap = memory(found, spec, replace(plain, recompute=RECOMPUTED[0])).total
    chosen, _ = choose_setting(found, spec, **sizes, capacity=cheap, on_gpu=True)
    assert chosen.recompute is RECOMPUTED[1]
    assert nearest_fits(found, spec, plain, cheap)
    assert not any("Selective" in words for words in nearest_fits(found, spec, plain, cheap))


def test_one_gpu_cannot_hold_8b_full_whatever_the_micro_batch() -> None:
    nearest = judged(big(full=True)).nearest
    assert not any(n.startswith("training.microBatchSize") for n in nearest)
    assert any("method.type: LoRA" in n for n in nearest)


def test_nothing_is_suggested_that_does_not_fit() -> None:
    spec = big(full=True)
    setting = setting_for(spec, StrategyName.DDP, world=1, per_node=1, micro_batch=1, accumulation=64)
    assert nearest_fits(llama_8b(), spec, setting, GIB) == []


@pytest.mark.parametrize(
    ("resources", "gib"),
    [
        ({}, None),
        ({"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}}, 40),
        ({"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}}, 80),
        ({"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L40S"}}, 46068 / 1024),
        ({"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"}}, 23034 / 1024),
        ({"nodeSelector": {"nvidia.com/gpu.product": "Tesla-T4"}}, 15),
        ({"nodeSelector": {"nvidia.com/gpu.product": "Somebody-Else-9000"}}, None),
        ({"nodeSelector": {"nvidia.com/gpu.memory": "81559"}}, 81559 / 1024),
        ({"gpuResource": "nvidia.com/mig-3g.40gb"}, 40e9 / GIB),
    ],
)
def test_a_gpu_is_known_by_what_the_spec_says(resources: dict[str, Any], gib: float | None) -> None:
    gpu = find_gpu(Resources.model_validate(resources))
    assert (gpu.memory / GIB if gpu else None) == gib


def test_unknown_gpus_are_unknown_and_nothing_is_invented() -> None:
    found = judged(big(resources={"nodeSelector": None}))
    assert (found.estimate.fits, found.estimate.step_seconds, found.estimate.total_gpu_hours) == ("Unknown", None, None)
    assert found.estimate.notice_fits == "Unknown"
    assert "does not say which GPU" in found.memory_words


def test_time_is_flops_over_two_fifths_of_the_peak() -> None:
    spec = big()
    found = judged(spec).estimate
    assert found.tokens_per_second_per_gpu is not None
    assert found.step_seconds is not None
    assert found.tokens_per_second_per_gpu == pytest.approx(
        0.4 * 989e12 / flops_per_token(llama_8b(), spec, length=4096), rel=1e-4
    )
    assert found.step_seconds == pytest.approx(64 * 4096 / found.tokens_per_second_per_gpu, rel=1e-4)
    assert found.total_gpu_hours == pytest.approx(found.step_seconds * 471 / 3600, rel=1e-3)


def test_training_everything_costs_half_more_than_adapters() -> None:
    full = flops_per_token(llama_8b(), big(full=True), length=1)
    assert full / flops_per_token(llama_8b(), big(), length=1) == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize(
    ("objective", "full", "retention", "adapter_passes"),
    [
        ({"type": "DPO"}, True, None, 2),
        ({"type": "DPO"}, False, None, 3),
        ({"type": "KTO"}, True, None, 3),
        ({"type": "KTO"}, False, None, 5),
        ({"type": "GRPO", "grpo": {"rewards": [{"type": "ExactMatch"}]}}, False, None, 2),
        ({"type": "GRPO", "grpo": {"rewards": [{"type": "ExactMatch"}], "beta": "0.1"}}, False, None, 3),
        ({"type": "SFT"}, False, {"klToBase": {"data": {"uri": "s3://team-a/kept.jsonl"}, "weight": "1"}}, 2.75),
    ],
)
def test_asking_the_base_costs_a_forward_pass(
    objective: dict[str, Any], full: bool, retention: dict[str, Any] | None, adapter_passes: float
) -> None:
    """In passes of 2 operations a weight: a frozen base takes 2 of them to learn through, a trained one 3."""
    spec = big(full=full, objective=objective, **({"retention": retention} if retention else {}))
    found = flops_per_token(llama_8b(), spec, length=1) / (2.0 * llama_8b().parameters)
    assert found == pytest.approx(adapter_passes + full, rel=0.02)


def test_the_promise_holds_while_step_and_checkpoint_fit_the_notice() -> None:
    assert notice_fits(10 * ASSUMED_BANDWIDTH, 5.0, 15.0) == "True"
    assert notice_fits(10 * ASSUMED_BANDWIDTH, 6.0, 15.0) == "False"
    assert notice_fits(10 * ASSUMED_BANDWIDTH, None, 15.0) == "Unknown"
    assert "89.7 GiB takes 482 s" in judged(big(full=True, gpus=8)).notice_words


def test_a_cpu_pod_is_measured_by_its_limit() -> None:
    spec = big(resources={"gpusPerNode": 0, "limits": {"memory": "8Gi"}})
    assert judged(spec).estimate.capacity_bytes == 8 * GIB
    assert judged(spec).estimate.fits == "False"


def test_the_estimate_imports_no_torch() -> None:
    code = (
        "import sys, finetune_trainer.model.estimate.judge, finetune_trainer.preflight.main;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
