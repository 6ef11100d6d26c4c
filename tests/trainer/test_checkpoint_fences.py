"""Fences: who may commit, and which checkpoints still count."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_api.manifests import Fence
from finetune_artifacts import Store, open_store
from finetune_trainer.checkpoint.fences import counts, highest_attempt, list_fences, put_fence, refuse_if_fenced
from finetune_trainer.common.errors import RunError


@pytest.fixture
def run(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/run")


def fence(attempt: int, resume_step: int) -> Fence:
    return Fence(attempt=attempt, resume_step=resume_step, at="2026-01-01T00:00:00Z")


def test_no_fences(run: Store) -> None:
    assert list_fences(run) == []
    assert highest_attempt(run) == 0
    refuse_if_fenced(run, 1)


def test_fences_are_listed_by_number_not_by_name(run: Store) -> None:
    for attempt in (10, 2, 1):
        put_fence(run, attempt, resume_step=attempt * 10, resume_attempt=attempt - 1)
    assert [(f.attempt, f.resume_step) for f in list_fences(run)] == [(1, 10), (2, 20), (10, 100)]
    assert highest_attempt(run) == 10


def test_a_zombie_is_refused_and_the_newest_is_not(run: Store) -> None:
    put_fence(run, 1, resume_step=0, resume_attempt=0)
    put_fence(run, 2, resume_step=5, resume_attempt=1)
    refuse_if_fenced(run, 2)
    with pytest.raises(RunError, match="fenced by attempt 2") as raised:
        refuse_if_fenced(run, 1)
    assert raised.value.code == 86


def test_a_twin_of_the_same_attempt_is_refused(run: Store) -> None:
    put_fence(run, 3, resume_step=0, resume_attempt=0)
    with pytest.raises(RunError, match="already begun") as raised:
        put_fence(run, 3, resume_step=7, resume_attempt=1)
    assert raised.value.code == 86


def test_a_file_that_is_no_fence_stops_everything(run: Store) -> None:
    run.put_bytes("fence/1", b"{}")
    with pytest.raises(RunError, match="fence/1 is not a fence") as raised:
        list_fences(run)
    assert raised.value.code == 74


@pytest.mark.parametrize(
    ("step", "attempt", "expected"),
    [(5, 1, True), (10, 1, True), (11, 1, False), (12, 2, True), (13, 2, False), (99, 3, True)],
)
def test_what_counts(step: int, attempt: int, expected: bool) -> None:
    assert counts(step, attempt, [fence(1, 0), fence(2, 10), fence(3, 12)]) is expected
