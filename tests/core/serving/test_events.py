"""Each thing that happened is told once, with its why."""

from __future__ import annotations

from finetune_api.deployment_status import ModelDeploymentStatus
from finetune_operator.core.serving.events import events
from tests.core.serving.world import World, serving


def test_a_rollout_reads_as_a_story() -> None:
    world = World(serving("one")).settle()
    world.edit(model={"fineTuneJobRef": {"name": "two"}}).run(200)
    told = [e.reason for e in world.events]
    first = told[: told.index("Promoted") + 1]
    assert first == ["RolloutStarted", "Starting", "Checking", "Promoting", "Promoted"]
    second = told[len(first) :]
    assert second == [
        "RolloutStarted",
        "Starting",
        "Checking",
        "Stepping",
        "WeightChanged",
        "WeightChanged",
        "Promoting",
        "Promoted",
        "Drained",
    ]
    assert all(e.type == "Normal" for e in world.events)


def test_a_rollback_is_a_warning_with_its_reason() -> None:
    world = World(serving("one")).settle()
    world.check = lambda _: {"exitCode": 76, "reason": "QualityFailed", "message": "exactMatch 0.1 of 64"}
    world.edit(model={"fineTuneJobRef": {"name": "two"}}).run(60)
    warnings = [e for e in world.events if e.type == "Warning"]
    assert [e.reason for e in warnings] == ["RollingBack", "RolledBack"]
    assert all("exactMatch 0.1 of 64" in e.message for e in warnings)


def test_nothing_new_is_no_event() -> None:
    world = World(serving("one")).settle()
    status = ModelDeploymentStatus.model_validate(world.status)
    assert events(status, status) == ()
