"""Which optimizer steps are taken, skipped, or end the run."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from finetune_api.training import Training
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine.guard import IN_A_ROW, WARM_STEPS, Guard

NAN = math.nan


def guard(**fields: Any) -> Guard:
    return Guard(Training.model_validate(fields))


def judge(guard: Guard, step: int, loss: float = 2.0, norm: float = 1.0) -> str | None:
    return guard.judge(step, loss=loss, norm=norm, rate=1e-4)


@pytest.mark.parametrize(("loss", "norm"), [(NAN, 1.0), (math.inf, 1.0), (2.0, NAN), (2.0, math.inf)])
def test_by_default_a_number_that_is_none_ends_the_run(loss: float, norm: float) -> None:
    with pytest.raises(RunError, match="diverged at step 7") as raised:
        judge(guard(), 7, loss, norm)
    assert raised.value.code == 72
    assert "lower training.learningRate" in raised.value.message
    assert "onNaN: SkipBatch" in raised.value.message


def test_skip_batch_goes_on_and_counts() -> None:
    g = guard(onNaN="SkipBatch")
    assert judge(g, 1) is None
    assert "not finite: loss nan" in str(judge(g, 2, loss=NAN))
    assert judge(g, 3) is None
    assert g.skipped == 1


def test_skipping_without_end_is_divergence() -> None:
    g = guard(onNaN="SkipBatch")
    for step in range(IN_A_ROW):
        assert judge(g, step, loss=NAN)
    with pytest.raises(RunError, match=f"{IN_A_ROW} batches in a row") as raised:
        judge(g, IN_A_ROW, loss=NAN)
    assert raised.value.code == 72


def test_a_good_step_between_bad_ones_starts_the_count_anew() -> None:
    g = guard(onNaN="SkipBatch")
    for step in range(5 * IN_A_ROW):
        judge(g, step, loss=NAN if step % IN_A_ROW else 2.0)


def warm(g: Guard) -> Guard:
    for step in range(WARM_STEPS):
        assert judge(g, step) is None
    return g


@pytest.mark.parametrize(("loss", "norm", "words"), [(10.1, 1.0, "loss 10.1"), (2.0, 5.1, "gradient norm 5.1")])
def test_spikes(loss: float, norm: float, words: str) -> None:
    assert words in str(judge(warm(guard(onSpike="SkipBatch")), 30, loss, norm))
    assert judge(warm(guard(onSpike="SkipBatch", spikeFactor=6)), 30, loss, norm) is None
    assert judge(warm(guard()), 30, loss, norm) is None, "off by default"
    with pytest.raises(RunError, match=f"spike at step 30: {words}"):
        judge(warm(guard(onSpike="Stop")), 30, loss, norm)


def test_the_first_steps_are_wild_and_no_spikes() -> None:
    g = guard(onSpike="SkipBatch")
    assert judge(g, 1, norm=0.1) is None
    assert judge(g, 2, norm=50.0) is None


def test_a_skipped_spike_does_not_move_the_mean() -> None:
    g = warm(guard(onSpike="SkipBatch"))
    for step in range(IN_A_ROW):
        assert judge(g, step, norm=1000.0)
    assert judge(g, 99, norm=4.9) is None


def test_the_memory_survives_a_checkpoint() -> None:
    first = warm(guard(onSpike="SkipBatch", onNaN="SkipBatch"))
    judge(first, 21, loss=NAN)
    second = guard(onSpike="SkipBatch", onNaN="SkipBatch")
    second.restore(json.loads(json.dumps(first.state())))
    for step in range(22, 60):
        loss, norm = 2.0 + step % 7, 1.0 + 8 * (step % 9 == 0)
        assert judge(first, step, loss, norm) == judge(second, step, loss, norm)
    assert first.state() == second.state()
    assert second.skipped > 1


def test_a_checkpoint_from_before_the_guard() -> None:
    g = warm(guard())
    g.restore(None)
    assert g.state() == guard().state()
