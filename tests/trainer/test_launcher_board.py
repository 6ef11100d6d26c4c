"""What the launcher knows: one stop however often it is asked for, progress from the ranks where there is any."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_api.reports import Stage
from finetune_trainer.common.channel import Channel, margin
from finetune_trainer.launcher.board import Board
from tests.trainer import runs


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def board(tmp_path: Path) -> Board:
    config = runs.config(tmp_path / "store", runs.spec(Path("/m"), Path("/d")), grace_seconds=120)
    return Board(config, 0, Channel(tmp_path / "channel"), clock=Clock())


def test_any_number_of_stops_are_one(board: Board) -> None:
    heard: list[str] = []
    board.on_stop = heard.append
    assert [board.request_stop(reason) for reason in ("SIGTERM", "taint", "SIGTERM")] == [True, False, False]
    assert heard == ["SIGTERM"]
    assert board.stop is not None
    assert board.stop == board.channel.stop_requested()
    assert board.stop.deadline == 1000 + 120 - 10
    assert board.changed.is_set()


@pytest.mark.parametrize(("grace", "kept"), [(5, 1), (30, 3), (120, 10), (600, 10)])
def test_margin(grace: float, kept: float) -> None:
    assert margin(grace) == kept


def test_saves_are_counted_for_rank_0(board: Board) -> None:
    assert board.channel.saves_requested() == 0
    board.request_save()
    board.request_save()
    assert board.channel.saves_requested() == 2


def test_progress_before_and_after_the_ranks_speak(board: Board) -> None:
    assert board.progress().stage is Stage.FETCHING
    board.enter(Stage.STARTING)
    assert board.stage is Stage.STARTING
    board.channel.put_progress({"stage": "Training", "step": 3, "loss": 0.5, "updatedAt": "2026-01-01T00:00:00.000Z"})
    board.request_stop("SIGTERM")
    progress = board.progress()
    assert (progress.stage, progress.step, progress.loss, progress.attempt) == (Stage.TRAINING, 3, 0.5, 1)
    assert progress.stop_requested_at == board.stop.requested_at if board.stop else False


def test_half_written_progress_is_no_progress(board: Board) -> None:
    (board.channel.folder / "progress.json").write_text('{"stage": "Tra')
    assert board.progress().stage is Stage.FETCHING
