"""Learning rates by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from finetune_api.training import LRScheduler, SchedulerType
from finetune_trainer.engine.schedule import learning_rate, peak_rate
from tests.trainer import runs


def rates(total: int = 10, **fields: Any) -> list[float]:
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


TOTAL, WARMUP = 40, 8


def theirs(make: Any, **options: Any) -> list[float]:
    """The rates of a schedule of transformers, by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer, num_warmup_steps=WARMUP, **options)
    found = []
    for _ in range(TOTAL):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("kind", "make", "options"),
    [
        ({"type": "Cosine"}, "get_cosine_schedule_with_warmup", {"num_training_steps": TOTAL}),
        (
            {"type": "Cosine", "minLrPercent": 10},
            "get_cosine_with_min_lr_schedule_with_warmup",
            {"num_training_steps": TOTAL, "min_lr_rate": 0.1},
        ),
        ({"type": "Linear"}, "get_linear_schedule_with_warmup", {"num_training_steps": TOTAL}),
        ({"type": "Constant"}, "get_constant_schedule_with_warmup", {}),
        ({"type": "InverseSqrt"}, "get_inverse_sqrt_schedule", {}),
        *(
            (
                {"type": "WSD", "minLrPercent": floor, "wsd": {"decayPercent": 25, "shape": ours}},
                "get_wsd_schedule",
                {
                    "num_training_steps": TOTAL,
                    "num_decay_steps": TOTAL // 4,
                    "decay_type": named,
                    "min_lr_ratio": floor / 100,
                },
            )
            for ours, named in (("Linear", "linear"), ("Cosine", "cosine"), ("OneMinusSqrt", "1-sqrt"))
            for floor in (0, 20)
        ),
    ],
)
def test_after_the_warm_up_it_is_transformers_schedule(
    kind: dict[str, Any], make: str, options: dict[str, Any]
) -> None:
    """Within the warm-up ours is one step ahead: no step is wasted at a rate of zero."""
    ours = rates(total=TOTAL, warmupPercent=100 * WARMUP // TOTAL, **kind)
    reference = theirs(getattr(transformers.optimization, make), **options)
    assert ours[WARMUP:] == pytest.approx(reference[WARMUP:])
    if not kind.get("minLrPercent"):
        assert ours[: WARMUP - 1] == pytest.approx(reference[1:WARMUP])


def test_wsd_without_its_block_decays_in_the_last_tenth() -> None:
    assert rates(total=20, type="WSD") == pytest.approx([1.0] * 19 + [0.5])


def test_a_warm_up_that_reaches_into_the_decay_shortens_it() -> None:
    values = rates(total=10, type="WSD", warmupPercent=80, wsd={"decayPercent": 100})
    assert values[7:] == pytest.approx([1.0, 1.0, 0.5])


def test_inverse_sqrt_without_a_warm_up_falls_by_a_scale_of_its_own() -> None:
    assert rates(total=3, type="InverseSqrt")[2] == pytest.approx((10_000 / 10_002) ** 0.5)


def test_lion_learns_at_a_fifth_by_default() -> None:
    training = {"learningRate": None, "optimizer": {"type": "Lion"}}
    document = runs.spec(Path("/m"), Path("/d"), training=training)
    assert peak_rate(runs.config(Path("/r"), document).spec) == pytest.approx(4e-5)
