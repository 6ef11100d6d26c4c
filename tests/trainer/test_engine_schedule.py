"""Learning rates by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_api.training import LRScheduler, SchedulerType
from finetune_trainer.engine.schedule import learning_rate, peak_rate
from tests.trainer import runs


def rates(total: int = 10, **fields: object) -> list[float]:
    scheduler = LRScheduler.model_validate({"warmupPercent": 0, **fields})
    return [learning_rate(step, total, 1.0, scheduler) for step in range(total)]


@pytest.mark.parametrize("kind", list(SchedulerType))
def test_warmup_rises_to_the_peak(kind: SchedulerType) -> None:
    assert rates(type=kind, warmupPercent=30)[:4] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])


def test_linear_falls_evenly_and_wastes_no_step() -> None:
    assert rates(type="Linear") == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_cosine_is_symmetric_and_keeps_its_floor() -> None:
    values = rates(type="Cosine", minLrPercent=20)
    assert values[0] == 1.0
    assert values[5] == pytest.approx(0.6)
    assert all(0.2 < value <= 1.0 for value in values)
    assert values == sorted(values, reverse=True)


def test_constant_stays() -> None:
    assert rates(type="Constant") == [1.0] * 10


def test_all_warmup() -> None:
    assert rates(total=2, type="Cosine", warmupPercent=100) == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize(("method", "rate"), [("LoRA", 2e-4), ("FullFineTune", 2e-5)])
def test_default_peak_depends_on_the_method(method: str, rate: float) -> None:
    document = runs.spec(Path("/m"), Path("/d"), method={"type": method, "lora": None}, training={"learningRate": None})
    assert peak_rate(runs.config(Path("/r"), document).spec) == rate
