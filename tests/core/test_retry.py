"""Retry policy: what is tried again, how long after, and when it is enough."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.status import FineTuneJobStatus
from finetune_operator.core.plan import parse_spec
from finetune_operator.core.retry import Again, GiveUp, backoff, decide
from tests.core.build import ended, ftj, status


def spec(**retry: Any) -> FineTuneJobSpec:
    return parse_spec(ftj({"retry": retry}))


def after(*attempts: dict[str, Any], restarts: int = 0, **fields: Any) -> FineTuneJobStatus:
    return FineTuneJobStatus.model_validate(status(*attempts, restarts=restarts, **fields))


@pytest.mark.parametrize("outcome", ["InvalidSpec", "DataInvalid", "Diverged", "NoCheckpoint", "GateFailed"])
def test_final_outcomes_are_never_tried_again(outcome: str) -> None:
    decision = decide(spec(), after(ended(1, outcome, message="why")))
    assert decision == GiveUp(outcome, "why")


def test_preemptions_restart_at_once_and_do_not_count() -> None:
    attempts = [ended(n, "Preempted", startStep=n * 10, committedStep=n * 10 + 5) for n in range(1, 9)]
    assert decide(spec(maxRestarts=0), after(*attempts)) == Again(0.0)


def test_failures_back_off_and_run_out() -> None:
    assert decide(spec(), after(ended(1, "Error", committedStep=5), restarts=2)) == Again(20.0)
    decision = decide(spec(), after(ended(1, "Error", message="boom", committedStep=5), restarts=4))
    assert isinstance(decision, GiveUp)
    assert decision.reason == "MaxRestartsExceeded"
    assert "boom" in decision.message


def test_attempts_without_a_new_step_run_out_whatever_the_cause() -> None:
    stuck = [ended(n, "Preempted", startStep=5, committedStep=5) for n in (1, 2, 3)]
    decision = decide(spec(noProgressLimit=3), after(*stuck))
    assert isinstance(decision, GiveUp)
    assert decision.reason == "NoProgress"
    moving = [*stuck[:2], ended(3, "Preempted", startStep=5, committedStep=6)]
    assert decide(spec(noProgressLimit=3), after(*moving)) == Again(0.0)


def test_suspension_is_nobodys_failure() -> None:
    attempts = [ended(n, "Suspended") for n in range(1, 6)]
    assert decide(spec(noProgressLimit=1, maxRestarts=0), after(*attempts)) == Again(0.0)


def test_out_of_memory_halves_the_micro_batch_until_one() -> None:
    decision = decide(spec(), after(ended(1, "OutOfMemory", microBatchSize=8, committedStep=1), restarts=1))
    assert isinstance(decision, Again)
    assert decision.micro_batch_size == 4
    assert "micro-batch 4 instead of 8" in decision.note
    assert isinstance(decide(spec(), after(ended(1, "OutOfMemory", microBatchSize=1), restarts=1)), GiveUp)


def test_a_bad_device_excludes_its_node() -> None:
    decision = decide(spec(), after(ended(1, "DeviceError", node="node-2", committedStep=1), restarts=1))
    assert isinstance(decision, Again)
    assert decision.excluded_nodes == ("node-2",)


def test_backoff_doubles_up_to_its_limit() -> None:
    assert [backoff(spec(), n) for n in (1, 2, 3, 10, 10_000)] == [10, 20, 40, 300, 300]
