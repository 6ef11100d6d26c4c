"""Which rank everybody waits for, and when that is said."""

from __future__ import annotations

import pytest

from finetune_trainer.engine.straggler import STEPS, Slowest, Stopwatch, Straggler, packed, unpacked


def heard(seconds: list[float]) -> tuple[int, float, float]:
    """What all ranks know after the maximum over their integers."""
    told = [packed(value, rank) for rank, value in enumerate(seconds)]
    return unpacked(max(slow for slow, _ in told), max(fast for _, fast in told))


@pytest.mark.parametrize("seconds", [[0.5, 2.25, 0.125], [3.0], [0.0, 0.0], [1e-6, 7 * 24 * 3600.0]])
def test_two_integers_tell_slowest_and_fastest(seconds: list[float]) -> None:
    rank, slowest, fastest = heard(seconds)
    assert seconds[rank] == slowest == max(seconds)
    assert fastest == min(seconds)


def named(steps: list[list[float]]) -> list[Slowest | None]:
    straggler = Straggler()
    return [straggler.note(*heard(seconds)) for seconds in steps]


def test_named_after_several_slow_steps_and_forgiven_at_once() -> None:
    slow, even = [1.0, 1.1, 2.0], [1.0, 1.1, 1.2]
    found = named([slow] * (STEPS + 1) + [even, slow])
    assert found == [None] * (STEPS - 1) + [Slowest(2, 2.0)] * 2 + [None, None]


def test_another_rank_each_time_is_no_straggler() -> None:
    assert not any(named([[1.0, 3.0], [3.0, 1.0]] * STEPS))


def test_small_differences_of_short_steps_are_no_news() -> None:
    assert not any(named([[0.01, 0.03]] * 2 * STEPS))


def test_ranks_that_have_not_measured_yet() -> None:
    assert not any(named([[0.0, 5.0]] * 2 * STEPS))


def test_stopwatch() -> None:
    times = iter([10.0, 12.5])
    watch = Stopwatch(cuda=False, clock=lambda: next(times))
    assert watch.seconds() == 0.0
    watch.start()
    watch.stop()
    assert watch.seconds() == 2.5
