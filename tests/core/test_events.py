"""Events are told once, for what changed between two statuses."""

from __future__ import annotations

import itertools

from finetune_api.status import FineTuneJobStatus
from finetune_operator.core.events import events
from tests.core.build import attempt, ended, running, status, ts


def s(*attempts: dict, **fields: object) -> FineTuneJobStatus:
    return FineTuneJobStatus.model_validate(status(*attempts, **fields))


def test_nothing_changed_tells_nothing() -> None:
    same = s(running())
    assert events(same, same) == ()


def test_an_attempt_is_told_when_it_runs_and_when_it_ends() -> None:
    assert [n.reason for n in events(s(attempt()), s(running()))] == ["AttemptStarted"]
    (note,) = events(s(running()), s(ended(1, "Error", message="boom")))
    assert (note.type, note.reason) == ("Warning", "AttemptEnded")
    assert "boom" in note.message


def test_a_preemption_is_told_in_three_parts() -> None:
    record = {"attempt": 1, "node": "n", "source": "spot", "noticedAt": ts(1)}
    saved = record | {"checkpointCommittedAt": ts(2), "checkpointStep": 9}
    resumed = saved | {"resumedAt": ts(3), "lostSteps": 0}
    stages = [s(), *(s(preemptions=[r]) for r in (record, saved, resumed))]
    told = [n.reason for a, b in itertools.pairwise(stages) for n in events(a, b)]
    assert told == ["PreemptionNoticed", "CheckpointCommitted", "Resumed"]


def test_failure_is_a_warning_and_success_is_not() -> None:
    (bad,) = events(s(phase="Publishing"), s(phase="Failed", reason="GateFailed", message="no"))
    assert bad.type == "Warning"
    (good,) = events(s(phase="Publishing"), s(phase="Succeeded", reason="Succeeded", message="yes"))
    assert good.type == "Normal"
