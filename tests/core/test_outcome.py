"""The outcome table, row by row: N pods, one verdict."""

from __future__ import annotations

from itertools import permutations

import pytest

from finetune_api.status import Outcome
from finetune_operator.core.disruption import Notice
from finetune_operator.core.outcome import Ending, outcome, outcome_from_job

SPOT = Notice("node-1", "karpenter.sh/disrupted", hard=True)


def e(code: int | None, index: int = 0, **more: object) -> Ending:
    return Ending(index=index, node=f"node-{index}", exit_code=code, **more)  # type: ignore[arg-type]


ROWS = [
    ("own code beats a neighbour's broken connection", [e(71, 0), e(75, 1)], Outcome.OUT_OF_MEMORY),
    ("invalid data is final whatever else happened", [e(66, 0), e(85, 1, notice=SPOT)], Outcome.DATA_INVALID),
    ("kernel OOM beats everything", [e(137, 0, kernel_oom=True), e(72, 1)], Outcome.OUT_OF_MEMORY),
    ("a disrupted pod explains its neighbour's NCCL error", [e(137, 0, notice=SPOT), e(75, 1)], Outcome.PREEMPTED),
    ("a lost node explains the rest", [e(None, 0, node_lost=True), e(75, 1)], Outcome.NODE_LOST),
    ("agreed stop", [e(85, 0), e(85, 1)], Outcome.PREEMPTED),
    ("stop without a save", [e(86, 0), e(86, 1)], Outcome.PREEMPTED),
    ("a crash is not hidden by the survivor's stop", [e(70, 0), e(85, 1)], Outcome.ERROR),
    ("an unannounced kill counts as a restart", [e(137, 0), e(75, 1)], Outcome.ERROR),
    ("hang before storage", [e(77, 0), e(74, 1)], Outcome.HANG),
    ("storage before unknown", [e(74, 0), e(1, 1)], Outcome.STORAGE),
    ("device", [e(75, 0), e(75, 1)], Outcome.DEVICE),
    ("unknown code", [e(3, 0), e(None, 1)], Outcome.ERROR),
    ("nobody saw anything", [e(None, 0), e(None, 1)], Outcome.DELETED),
    ("no pods", [], Outcome.DELETED),
]


@pytest.mark.parametrize(("name", "endings", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_table(name: str, endings: list[Ending], expected: Outcome) -> None:
    for order in permutations(endings):
        assert outcome(order).outcome is expected


def test_the_first_failing_node_is_named_not_its_survivors() -> None:
    verdict = outcome([e(75, 0, finished_at="2026-01-01T00:00:02Z"), e(75, 1, finished_at="2026-01-01T00:00:01Z")])
    assert verdict.node == "node-1"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Container main for pod team/bot-1-0-x failed with exit code 72 matching FailJob rule at index 1", "Diverged"),
        (
            "Container main for pod team/bot-1-0-x failed with exit code 85 matching FailJob rule at index 1",
            "Preempted",
        ),
        ("Pod team/x has condition DisruptionTarget matching FailJob rule at index 0", "Preempted"),
        ("Job has reached the specified backoff limit", None),
    ],
)
def test_a_job_remembers_when_all_pods_are_gone(message: str, expected: str | None) -> None:
    verdict = outcome_from_job(message)
    assert (verdict and verdict.outcome.value) == expected
