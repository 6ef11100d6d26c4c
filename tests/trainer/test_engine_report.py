"""What the launcher is told about waiting for data, up to Prometheus."""

from pathlib import Path

import pytest

from finetune_api.training import Training
from finetune_trainer.common.channel import Channel
from finetune_trainer.engine.plan import plan_batches
from finetune_trainer.engine.report import SMOOTHING, Reporter
from finetune_trainer.launcher.board import Board
from finetune_trainer.launcher.prometheus import exposition
from tests.trainer import runs


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path / "channel")


@pytest.fixture
def reporter(channel: Channel) -> Reporter:
    return Reporter(channel, plan_batches(Training(global_batch_size=8), 80, 1), 0)


def test_the_share_of_waiting_is_smoothed(channel: Channel, reporter: Reporter) -> None:
    assert "dataWaitPercent" not in channel.progress()
    reporter.waited(0.5, 1.0)
    reporter.flush()
    assert channel.progress()["dataWaitPercent"] == 50
    reporter.waited(0.0, 1.0)
    reporter.flush()
    assert channel.progress()["dataWaitPercent"] == 50 * (1 - SMOOTHING)


def test_a_step_without_time_waited_for_nothing(channel: Channel, reporter: Reporter) -> None:
    reporter.waited(0.0, 0.0)
    reporter.flush()
    assert channel.progress()["dataWaitPercent"] == 0


def test_prometheus_and_progress_say_it(tmp_path: Path, channel: Channel, reporter: Reporter) -> None:
    board = Board(runs.config(tmp_path, runs.spec(tmp_path, tmp_path)), 0, channel)
    assert "data_wait_percent" not in exposition(board)
    reporter.waited(0.025, 1.0)
    reporter.flush()
    assert board.progress().data_wait_percent == 2.5
    assert "finetune_trainer_data_wait_percent 2.5\n" in exposition(board)
