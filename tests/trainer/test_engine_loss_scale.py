"""FP16's loss scale: halves on overflow, doubles after long peace, resumes where it was, and is not there otherwise."""

from __future__ import annotations

import math

import pytest

from finetune_api.training import Precision
from finetune_trainer.engine.loss_scale import FIRST, GROWS_AFTER, MOST, LossScale

OVERFLOW = {"loss": 1.0, "norm": math.inf}
GOOD = {"loss": 1.0, "norm": 2.0}


def fp16() -> LossScale:
    return LossScale(Precision.FP16)


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP32])
def test_other_precisions_have_none(precision: Precision) -> None:
    scale = LossScale(precision)
    assert scale.judge(**OVERFLOW) is None
    assert (scale.scale, scale.shown, scale.state()) == (1.0, None, None)


def test_an_overflow_is_left_out_in_words_and_halves_the_scale() -> None:
    scale = fp16()
    words = scale.judge(**OVERFLOW)
    assert words is not None
    assert "FP16 overflow" in words
    assert (scale.scale, scale.skipped) == (FIRST / 2, 1)


def test_nan_gradients_are_an_overflow_too() -> None:
    assert fp16().judge(loss=1.0, norm=math.nan) is not None


def test_it_doubles_after_long_peace_and_an_overflow_begins_the_count_anew() -> None:
    scale = fp16()
    for _ in range(GROWS_AFTER - 1):
        assert scale.judge(**GOOD) is None
    scale.judge(**OVERFLOW)
    for _ in range(GROWS_AFTER - 1):
        scale.judge(**GOOD)
    assert scale.scale == FIRST / 2
    scale.judge(**GOOD)
    assert scale.scale == FIRST


def test_it_stops_growing() -> None:
    scale = fp16()
    scale.restore({"scale": MOST, "good": GROWS_AFTER - 1, "skipped": 0})
    scale.judge(**GOOD)
    assert scale.scale == MOST


def test_a_loss_that_is_no_number_and_an_unscaled_overflow_are_for_the_guard() -> None:
    scale = fp16()
    assert scale.judge(loss=math.nan, norm=math.nan) is None
    assert scale.scale == FIRST
    scale.restore({"scale": 1.0, "good": 0, "skipped": 16})
    assert scale.judge(**OVERFLOW) is None


def test_state_goes_there_and_back() -> None:
    scale, resumed = fp16(), fp16()
    scale.judge(**OVERFLOW)
    scale.judge(**GOOD)
    resumed.restore(scale.state())
    assert resumed.state() == scale.state()
    resumed.restore(None)
    assert resumed.state() == scale.state()
