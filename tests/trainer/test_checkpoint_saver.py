"""When a failed save is forgiven, and when it ends the run."""

from __future__ import annotations

import threading

import pytest

from finetune_api.exitcodes import ExitCode
from finetune_api.reports import CheckpointReport
from finetune_artifacts import Unreachable
from finetune_trainer.checkpoint import saver as module
from finetune_trainer.checkpoint.saver import Saver
from finetune_trainer.checkpoint.snapshot import Snapshot
from finetune_trainer.common.errors import RunError
from tests.trainer.test_checkpoint_find import snapshot


class Store:
    """Fails as often as told, then commits."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.calls = failures, 0
        self.gate = threading.Event()
        self.gate.set()

    def commit(self, taken: Snapshot) -> CheckpointReport:
        self.gate.wait()
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise Unreachable("s3://bucket/run", "write", "no answer")
        return CheckpointReport(
            step=taken.position.step, attempt=1, uri="s3://b", bytes=1, seconds=0.1, digest="xxh3:0", at="now"
        )


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.001, 0.001, 0.001))


def save(saver: Saver, step: int, *, persistent: bool = False) -> None:
    saver.start(snapshot(step), persistent=persistent)
    assert saver.wait(10)


def test_a_short_outage_is_ridden_out() -> None:
    store, told = Store(3), []
    saver = Saver(store.commit, told.append)
    save(saver, 5)
    assert saver.error() is None
    assert [report.step for report in told] == [5]
    assert saver.last is told[0]


def test_one_failed_save_is_forgiven_two_in_a_row_are_not() -> None:
    store = Store(8)
    saver = Saver(store.commit, lambda _report: None)
    save(saver, 5)
    assert saver.error() is None
    assert saver.last is None
    save(saver, 10)
    error = saver.error()
    assert error is not None
    assert error.code == ExitCode.STORAGE
    assert "step 10" in error.message
    assert "no answer" in error.message


def test_a_success_between_failures_starts_the_count_anew() -> None:
    store = Store(4)
    saver = Saver(store.commit, lambda _report: None)
    save(saver, 5)
    save(saver, 10)
    store.failures = 4
    save(saver, 15)
    assert saver.error() is None


def test_the_save_at_a_stop_does_not_give_up() -> None:
    store = Store(50)
    saver = Saver(store.commit, lambda _report: None)
    save(saver, 5, persistent=True)
    assert saver.last is not None
    assert store.calls == 51


def test_a_stop_hurries_a_periodic_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", (3600.0,))
    store = Store(1)
    saver = Saver(store.commit, lambda _report: None)
    saver.start(snapshot(5))
    saver.hurry()
    assert saver.wait(10)
    assert store.calls == 1
    assert saver.error() is None


def test_busy_while_bytes_travel() -> None:
    store = Store()
    store.gate.clear()
    saver = Saver(store.commit, lambda _report: None)
    saver.start(snapshot(5))
    assert saver.busy
    assert not saver.wait(0.01)
    store.gate.set()
    assert saver.wait(10)
    assert not saver.busy


def test_a_fence_ends_the_run_at_once() -> None:
    def fenced(_snapshot: Snapshot) -> CheckpointReport:
        raise RunError(ExitCode.STOPPED_UNSAVED, "fenced by attempt 2")

    saver = Saver(fenced, lambda _report: None)
    save(saver, 5, persistent=True)
    error = saver.error()
    assert error is not None
    assert error.code == 86


def test_a_bug_is_not_taken_for_weather() -> None:
    def broken(_snapshot: Snapshot) -> CheckpointReport:
        raise ZeroDivisionError

    saver = Saver(broken, lambda _report: None)
    save(saver, 5)
    with pytest.raises(ZeroDivisionError):
        saver.error()
