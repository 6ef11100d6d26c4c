"""When a stable revision is no measure, and when it only looks so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from finetune_operator.core.serving.analysis.totals import Totals
from finetune_operator.core.serving.types import EngineView
from tests.core.serving.world import T0, World, serving

METRICS = {"analysis": {"minSamples": 20, "metrics": [{"name": "ErrorRate", "maxRegressionPercent": 10}]}}
HUNG = EngineView("", running=3, busy_since=T0)


def rolling(**more: Any) -> World:
    world = World(serving("one", replicas=2, **more))
    world.spec["rollout"] |= METRICS
    world.settle().edit(model={"fineTuneJobRef": {"name": "two"}}).settle()
    assert world.status is not None
    return world


def names(world: World) -> tuple[str, str]:
    assert world.status is not None
    return world.status["stable"]["revision"], world.status["canary"]["revision"]


def let_in(world: World, told: str = "") -> bool:
    """The candidate has its samples, stable has none; `told` stands in a verdict on the way."""
    old, new = names(world)
    world.totals = {old: Totals(2), new: Totals(100)}
    seen = []
    for _ in range(40):
        world.run(5)
        assert world.status is not None
        seen += [str(verdict["message"]) for verdict in world.status.get("analysis", ())]
        if world.status["stable"]["revision"] == new:
            assert any(told in text for text in seen), seen
            return True
    return False


@pytest.mark.parametrize(
    ("view", "told"),
    [
        (
            HUNG,
            "stable answers nothing to compare with: its pod bot-{old}-rs-0 runs 3 requests and ended none of them for 60s",
        ),
        (
            EngineView("", synthetic_error="POST answered 503"),
            "stable answers nothing to compare with: its pod bot-{old}-rs-0: a test request failed: POST answered 503",
        ),
    ],
)
def test_a_good_candidate_replaces_a_stable_that_answers_nothing(view: EngineView, told: str) -> None:
    world = rolling()
    old, _ = names(world)
    world.views = {p["metadata"]["name"]: replace(view, revision=old) for p in world.engine_pods(old)}
    assert let_in(world.advance(61), told.format(old=old))


def test_a_stable_that_is_not_ready_for_long() -> None:
    world = rolling()
    old, _ = names(world)
    gone = [{"type": "Ready", "status": "False", "lastTransitionTime": world.stamp}]
    for pod in world.engine_pods(old):
        world.rewrite(pod["metadata"]["name"], conditions=gone)
    assert let_in(world)


@pytest.mark.parametrize(
    "view",
    [
        EngineView("", failed_scrapes=9),
        EngineView("", failed_scrapes=9, synthetic_error="connection refused"),
        EngineView(""),
    ],
)
def test_what_is_only_not_seen_proves_nothing(view: EngineView) -> None:
    world = rolling()
    old, _ = names(world)
    world.views = {p["metadata"]["name"]: replace(view, revision=old) for p in world.engine_pods(old)}
    assert not let_in(world)


def test_one_engine_that_answers_is_enough_to_wait_for() -> None:
    world = rolling()
    old, _ = names(world)
    world.views = {world.engine_pods(old)[0]["metadata"]["name"]: replace(HUNG, revision=old)}
    assert not let_in(world.advance(61))
