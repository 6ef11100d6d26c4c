"""When the held-out loss is looked at, what the best step is, and when training has waited long enough."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.common.errors import SpecError
from finetune_trainer.engine.watch import Watch
from tests.trainer import runs

STOPPING: dict[str, Any] = {"training": {"earlyStopping": {"patience": 2}}}


def watch(**changes: Any) -> Watch:
    document = runs.spec(Path("/m"), Path("/d"), **changes)
    return Watch(FineTuneJobSpec.model_validate(document), steps_per_epoch=10, total_steps=35)


def after(found: Watch, losses: list[float], every: int = 10) -> Watch:
    for number, loss in enumerate(losses, start=1):
        assert not found.over
        found.note(number * every, loss)
    return found


def test_nothing_is_looked_at_unless_somebody_asked() -> None:
    assert not any(watch().due(step) for step in range(1, 36))


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"evaluation": {"intervalSteps": 15}}, [15, 30, 35]),
        (STOPPING, [10, 20, 30, 35]),
        ({"checkpoint": {"keep": {"best": 1}}}, [10, 20, 30, 35]),
        ({**STOPPING, "evaluation": {"intervalSteps": 20}}, [20, 35]),
    ],
)
def test_looks_are_due_at_steps_and_at_the_end(changes: dict[str, Any], steps: list[int]) -> None:
    found = watch(**changes)
    assert [step for step in range(36) if found.due(step)] == steps
    found.note(steps[0], 1.0)
    assert not found.due(steps[0])


def test_it_waits_as_long_as_it_is_told_to() -> None:
    found = after(watch(**STOPPING), [2.0, 1.5, 1.6])
    assert not found.over
    found.note(40, 1.5)
    assert found.over
    assert "did not get below 1.5 in 2 evaluations (lowest at step 20)" in found.words()


def test_a_better_loss_starts_the_wait_anew() -> None:
    assert not after(watch(**STOPPING), [2.0, 2.1, 1.9, 2.0]).over


def test_min_delta_asks_for_more_than_a_little() -> None:
    stopping = {"training": {"earlyStopping": {"patience": 2, "minDelta": "0.1"}}}
    found = after(watch(**stopping), [2.0, 1.95, 1.91])
    assert found.over
    assert "below 2 by 0.1" in found.words()


def test_many_small_gains_are_one_large_one() -> None:
    stopping = {"training": {"earlyStopping": {"patience": 3, "minDelta": "0.1"}}}
    assert not after(watch(**stopping), [2.0, 1.95, 1.89, 1.85]).over


def test_what_is_not_a_number_is_no_gain_and_not_the_best() -> None:
    found = after(watch(**STOPPING, checkpoint={"keep": {"best": 1}}), [math.nan, math.inf])
    assert found.over
    assert "was never finite" in found.words()
    assert not found.best_now(20)
    assert found.loss(20) is None
    json.dumps(found.state(), allow_nan=False)


def test_the_best_step_is_the_lowest_one() -> None:
    found = watch(checkpoint={"keep": {"best": 1}})
    for step, loss, best in ((10, 2.0, True), (20, 2.1, False), (30, 1.9, True)):
        found.note(step, loss)
        assert found.best_now(step) is best
        assert found.loss(step) == loss
        assert found.loss(step + 1) is None
    assert not found.best_now(31)


def test_a_restored_one_goes_on_as_if_nothing_had_been() -> None:
    first = after(watch(**STOPPING), [2.0, 1.5])
    second = watch(**STOPPING)
    second.restore(json.loads(json.dumps(first.state())))
    for found in (first, second):
        found.note(30, 1.7)
        found.note(35, 1.6)
    assert first.state() == second.state()
    assert second.over
    second.restore(None)
    assert not second.over


def test_decisions_without_held_out_records_are_refused() -> None:
    watch().require(0)
    watch(**STOPPING).require(5)
    with pytest.raises(SpecError, match=r"validation\.percent"):
        watch(**STOPPING).require(0)
