"""A rejection holds for a revision under one trial, survives the status, and ends by exactly one word."""

from __future__ import annotations

import pytest

from finetune_operator.core.serving.rejection import recall
from tests.core.serving.world import World, serving

WORSE = {"exitCode": 76, "reason": "QualityFailed", "message": "worse"}


def rejected() -> tuple[World, str]:
    world = World(serving("one")).settle()
    world.check = lambda _: WORSE
    world.edit(model={"fineTuneJobRef": {"name": "two"}}).run(60)
    assert world.status is not None
    return world, str(world.status["rejected"][0]["revision"])


def rollouts(world: World) -> int:
    return len([e for e in world.events if e.reason == "RolloutStarted"])


def test_another_analysis_is_another_trial() -> None:
    world, name = rejected()
    world.check = lambda _: {"exitCode": 0, "reason": "Checked", "message": "well"}
    before = rollouts(world)
    world.edit(rollout={**world.spec["rollout"], "maxSurge": 2}).run(60)
    assert rollouts(world) == before, "sizes are no other trial"
    world.edit(rollout={**world.spec["rollout"], "analysis": {"minSamples": 10}}).run(120)
    assert world.weights() == {name: 100}


@pytest.mark.parametrize("value", ["someone-else", "x" * 300, ""])
def test_a_retry_of_something_else_changes_nothing(value: str) -> None:
    world, _ = rejected()
    before = rollouts(world)
    world.annotations["finetune.dev/retry"] = value
    world.run(60)
    assert rollouts(world) == before


def test_a_retry_is_taken_once_until_it_was_taken_away() -> None:
    world, name = rejected()
    before = rollouts(world)
    world.annotations["finetune.dev/retry"] = name
    world.run(120)
    assert rollouts(world) == before + 1, "rejected again; the same annotation is not a second word"
    del world.annotations["finetune.dev/retry"]
    world.run(10)
    world.annotations["finetune.dev/retry"] = name
    world.run(120)
    assert rollouts(world) == before + 2


@pytest.mark.parametrize("passes", range(24))
def test_no_moment_in_which_a_lost_status_takes_the_rejection_along(passes: int) -> None:
    """From the moment that status says so on, and a while after that."""
    world = World(serving("one")).settle()
    world.check = lambda _: WORSE
    world.edit(model={"fineTuneJobRef": {"name": "two"}})
    while not (world.status or {}).get("rejected"):
        world.step()
    for _ in range(passes):
        world.step()
    world.status = None
    world.run(120)
    assert rollouts(world) == 2, "the first one and the rejected one"
    assert world.condition("Stalled")["reason"] == "QualityFailed"


def test_a_retry_that_was_taken_is_not_taken_again_when_the_status_is_lost() -> None:
    world, name = rejected()
    world.annotations["finetune.dev/retry"] = name
    world.run(120)
    before, told = rollouts(world), len(world.events)
    world.status = None
    world.run(120)
    assert rollouts(world) == before
    assert world.condition("Stalled")["reason"] == "QualityFailed"
    assert "Retried" not in {e.reason for e in world.events[told:]}


@pytest.mark.parametrize("text", ["", "[]", "{", "[1]", '[{"revision": "a"}]'])
def test_an_annotation_that_cannot_be_read_is_no_memory(text: str) -> None:
    assert recall({"metadata": {"annotations": {"finetune.dev/rejected": text}}}) == []
