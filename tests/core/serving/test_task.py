"""A Job's answer: read once, asked again where it may still turn out well, given up in words where it may not."""

from __future__ import annotations

from tests.core.serving.world import World, serving


def reasons(world: World) -> set[str]:
    return {e.reason for e in world.events}


def test_a_missing_secret_is_waited_for_without_end_and_found_when_it_comes() -> None:
    world = World(serving("one"))
    world.verify = lambda _: {"exitCode": 69, "reason": "SecretMissing", "message": "Secret store: not there"}
    world.run(3600, every=60)
    assert world.status is not None
    assert world.status["rollout"]["stage"] == "Verifying"
    assert world.status["reason"] == "SecretMissing"
    assert "Secret store" in world.status["message"]
    world.verify = lambda _: {"exitCode": 0, "reason": "Verified", "message": "whole"}
    world.run(60)
    assert world.status["phase"] == "Healthy"


def test_an_engine_that_never_answers_the_check_is_given_up_at_the_deadline() -> None:
    world = World(serving("one", rollout={"progressDeadline": "2m"}))
    world.check = lambda _: {"exitCode": 69, "reason": "EngineUnreachable", "message": "no answer"}
    world.run(60)
    assert world.status is not None
    assert world.status["rollout"]["stage"] == "Checking"
    world.run(120)
    assert world.status["history"][-1]["reason"] == "EngineUnreachable"
    assert "rollout.progressDeadline" in world.status["history"][-1]["message"]


def test_a_job_that_ends_without_a_word_is_asked_again() -> None:
    world = World(serving("one"))
    while not any(k == "Job" for k, _ in world.objects):
        world.step()
    name = next(n for (k, n) in world.objects if k == "Job")
    world.pods[f"{name}-pod"]["status"]["containerStatuses"][0]["state"]["terminated"] |= {
        "exitCode": 137,
        "message": "",
    }
    world.settle()
    assert world.status is not None
    assert world.status["reason"] == "TaskFailed"
    assert "exit code 137" in world.status["message"]
    world.run(60)
    assert world.status["phase"] == "Healthy"
