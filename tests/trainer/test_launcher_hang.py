"""The hang verdict, on a clock of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from finetune_trainer.launcher.hang import STARTING_SECONDS, HangWatch, is_frozen


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


def test_a_process_that_does_not_run_is_named_before_those_that_wait_for_it() -> None:
    watch = HangWatch(10)
    watch.check(0, {0: 500, 1: 600}, 0, training=True)
    hang = watch.check(11, {0: 500, 1: 600}, 0, training=True, frozen=[1])
    assert hang is not None
    assert hang.rank == 1


def test_a_process_that_does_not_run_is_named_though_it_was_heard_of_last() -> None:
    """It gave its last sign of life just before it was to meet the one that waits for it."""
    watch = HangWatch(10)
    watch.check(0.0, {0: 500, 1: 500}, 0, training=True)
    watch.check(0.3, {0: 500, 1: 700}, 0, training=True)
    hang = watch.check(10.2, {0: 500, 1: 700}, 0, training=True, frozen=[1])
    assert hang is not None
    assert hang.rank == 1
    assert hang.silent_seconds == pytest.approx(9.9)


def test_a_process_that_waits_for_its_disk_for_a_moment_is_not_named() -> None:
    watch = HangWatch(10)
    watch.check(0, {0: 500, 1: 500}, 0, training=True)
    watch.check(10, {0: 500, 1: 900}, 0, training=True)
    hang = watch.check(11, {0: 500, 1: 900}, 0, training=True, frozen=[1])
    assert hang is not None
    assert hang.rank == 0


def test_a_stopped_process_is_frozen() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        child.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while not is_frozen(child.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert is_frozen(child.pid)
    finally:
        child.kill()
        child.wait()
    assert not is_frozen(child.pid)
