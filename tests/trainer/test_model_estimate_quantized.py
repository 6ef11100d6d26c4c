"""QLoRA in the estimate: bytes of the published 8B shape, and that it is proposed where nothing larger fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import Quantization, QuantType
from finetune_trainer.engine.plan import plan_batches
from finetune_trainer.model.estimate.judge import Judgement, judge
from finetune_trainer.model.estimate.quantized import layer_bytes, saved, transient_bytes
from finetune_trainer.model.estimate.shapes import linear_modules
from tests.trainer import small
from tests.trainer.shapes8b import llama_8b

GIB = 1 << 30


def spec(method: dict[str, Any], product: str = "NVIDIA-H100-80GB-HBM3") -> FineTuneJobSpec:
    document = {
        "method": {"type": "LoRA", "lora": {"rank": 16}} | method,
        "data": {"maxLength": 1024},
        "training": {"precision": "BF16", "microBatchSize": 1, "globalBatchSize": 64},
        "resources": {"gpusPerNode": 1, "nodeSelector": {"nvidia.com/gpu.product": product}},
    }
    return small.config(Path("/x"), document).spec


def judged(job: FineTuneJobSpec) -> Judgement:
    return judge(llama_8b(), job, plan_batches(job.training, 10_000, 1, on_gpu=True))


@pytest.mark.parametrize(
    ("quantization", "bits"),
    [
        (Quantization(), 4.127),
        (Quantization(double_quant=False), 4.5),
        (Quantization(type=QuantType.INT8), 8.008),
    ],
)
def test_bits_of_a_parameter(quantization: Quantization, bits: float) -> None:
    """Dettmers et al. 2023, section 3: double quantization takes the scales from 0.5 to 0.127 bits a parameter."""
    assert 8 * layer_bytes(4096, 4096, quantization) / 4096**2 == pytest.approx(bits, abs=1e-3)


def test_the_base_is_a_third_of_loras_and_the_adapter_the_same() -> None:
    lora, qlora = judged(spec({})), judged(spec({"type": "QLoRA"}))
    linear = sum(out * into for out, into in linear_modules(llama_8b().tensors).values())
    less = lora.parts.weights - qlora.parts.weights
    assert (
        less == saved(llama_8b(), spec({"type": "QLoRA"}), resting=2) == pytest.approx(linear * (2 - 0.516), rel=1e-3)
    )
    assert qlora.parts.gradients == lora.parts.gradients
    assert qlora.estimate.trainable_parameters == lora.estimate.trainable_parameters
    assert qlora.parts.buffers - lora.parts.buffers == transient_bytes(llama_8b(), spec({"type": "QLoRA"}))
    assert transient_bytes(llama_8b(), spec({})) == saved(llama_8b(), spec({}), resting=2) == 0
    assert transient_bytes(llama_8b(), spec({"type": "QLoRA"})) == 2 * 4096 * 14336


@pytest.mark.parametrize("method", [{}, {"type": "FullFineTune", "lora": None}])
def test_it_is_proposed_where_only_it_fits(method: dict[str, Any]) -> None:
    job = spec(method, "Tesla-T4")
    found = judged(job)
    assert found.estimate.fits == "False"
    assert any("method.type: QLoRA" in one for one in found.nearest)


def test_it_is_not_proposed_to_itself() -> None:
    found = judged(spec({"type": "QLoRA", "lora": {"rank": 1024}}, "Tesla-T4"))
    assert not any("QLoRA" in one for one in found.nearest)
