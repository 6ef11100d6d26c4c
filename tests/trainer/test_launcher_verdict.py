"""The exit code and its words, from all that can be known at the end."""

from __future__ import annotations

import pytest

from finetune_api.exitcodes import ExitCode
from finetune_artifacts import Unreachable
from finetune_trainer.common.channel import RankError
from finetune_trainer.common.errors import RunError
from finetune_trainer.launcher.gang import GangFailed
from finetune_trainer.launcher.verdict import Verdict, verdict


def error(rank: int, code: int, *, secondary: bool = False, at: float = 0.0) -> RankError:
    return RankError(rank, code, "Reason", "the words", "the trace", at, secondary)


def judged(exit_codes: dict[int, int], *errors: RankError, stopping: bool = False) -> Verdict:
    return verdict(GangFailed(exit_codes), errors, stopping=stopping, step=7)


def test_done() -> None:
    assert verdict(None, [], stopping=False, step=7).code == 0
    assert verdict(None, [], stopping=True, step=7).code == 0


def test_stopped_together() -> None:
    found = judged({0: 85, 1: 85}, stopping=True)
    assert found.code == 85
    assert "step 7" in found.message


def test_the_first_failing_rank_speaks_not_its_survivors() -> None:
    found = judged({0: 70, 1: 72}, error(0, 70, secondary=True, at=1.0), error(1, 72, at=2.0))
    assert (found.code, found.first_failing_rank, found.traceback) == (72, 1, "the trace")
    assert found.message == "rank 1: the words"


def test_a_pod_of_survivors_blames_nobody() -> None:
    found = judged({0: 70}, error(0, 70, secondary=True))
    assert (found.code, found.first_failing_rank) == (70, None)


@pytest.mark.parametrize(("signal", "code", "name"), [(-9, 137, "SIGKILL"), (-11, 139, "SIGSEGV")])
def test_a_killed_rank_is_named_by_its_signal(signal: int, code: int, name: str) -> None:
    found = judged({1: signal, 0: 70}, error(0, 70, secondary=True))
    assert (found.code, found.first_failing_rank) == (code, 1)
    assert name in found.message


def test_a_rank_without_words() -> None:
    assert judged({1: 3}).code == 3
    assert judged({}).code == 70


@pytest.mark.parametrize("code", [70, 71, 74, 75, 77])
def test_failures_while_stopping_are_a_stop_without_a_save(code: int) -> None:
    found = judged({0: code}, error(0, code), stopping=True)
    assert found.code == 86
    assert "the words" in found.message


@pytest.mark.parametrize("code", [64, 66, 72, 73, 86])
def test_final_failures_stay_final_while_stopping(code: int) -> None:
    assert judged({0: code}, error(0, code), stopping=True).code == code


def test_errors_of_the_launcher_itself() -> None:
    storage = verdict(Unreachable("s3://b", "list", "no answer"), [], stopping=False, step=0)
    assert storage.code == 74
    assert "no answer" in storage.message
    assert storage.first_failing_rank is None
    waiting = verdict(RunError(ExitCode.WAITING, "no Secret", reason="SecretMissing"), [], stopping=False, step=0)
    assert (waiting.code, waiting.reason) == (74, "SecretMissing")
    assert verdict(RuntimeError("connection refused by store"), [], stopping=False, step=0).code == 75


def test_the_last_words_say_that_it_ended_early() -> None:
    found = verdict(None, [], stopping=False, step=7, early="stopped early at step 7 of 9: no better")
    assert (found.code, found.message) == (0, "training is complete at step 7, stopped early at step 7 of 9: no better")
