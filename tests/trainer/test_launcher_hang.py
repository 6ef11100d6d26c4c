"""The hang verdict, on a clock of its own."""

from __future__ import annotations

from finetune_trainer.launcher.hang import STARTING_SECONDS, HangWatch


def test_beating_ranks_do_not_hang() -> None:
    watch = HangWatch(10)
    assert all(watch.check(now, {0: now, 1: now}, 0, training=True) is None for now in range(100))


def test_silence_beyond_the_timeout_names_the_rank() -> None:
    watch = HangWatch(10)
    assert watch.check(0, {0: 1, 1: 1}, 0, training=True) is None
    assert watch.check(9, {0: 2, 1: 1}, 0, training=True) is None
    assert watch.check(10, {0: 2, 1: 1}, 0, training=True) is None
    hang = watch.check(10.5, {0: 2, 1: 1}, 0, training=True)
    assert hang is not None
    assert (hang.rank, hang.silent_seconds) == (1, 10.5)


def test_the_heart_that_stopped_first_is_named() -> None:
    watch = HangWatch(10)
    watch.check(0, {0: 700, 1: 500, 2: 600}, 0, training=True)
    hang = watch.check(11, {0: 700, 1: 500, 2: 600}, 0, training=True)
    assert hang is not None
    assert hang.rank == 1


def test_starting_may_take_longer_than_a_step() -> None:
    watch = HangWatch(10)
    assert watch.check(0, {0: 1}, 0, training=False) is None
    assert watch.check(STARTING_SECONDS, {0: 1}, 0, training=False) is None
    assert watch.check(STARTING_SECONDS + 1, {0: 1}, 0, training=False) is not None


def test_before_the_ranks_the_launchers_own_beat_counts() -> None:
    watch = HangWatch(400)
    assert watch.check(400, {}, 10, training=False) is None
    hang = watch.check(411, {}, 10, training=False)
    assert hang is not None
    assert hang.rank is None
