"""A publish pod's containers run one after the other: which of them works, waits or has failed, and what it said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finetune_api.reports import PublishReport
from finetune_operator.core.objects import pending_cause, pod_over, terminated
from finetune_operator.core.publish_pod import doing, held_up, read_report, without_report
from tests.core.build import ts

METRICS = {"exactMatch": {"final": 0.9, "samples": 64}}


def report(code: int, message: str, **fields: Any) -> str:
    words = {"exitCode": code, "reason": "r", "message": message, "at": ts(120), **fields}
    return json.dumps(PublishReport.model_validate(words).to_wire())


def ended(code: int, message: str = "", *, reason: str = "Error", at: float = 100) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": ts(at)}}


def waiting(reason: str = "PodInitializing", message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def pod(*states: dict[str, Any], phase: str = "Pending") -> dict[str, Any]:
    """States of prepare, served-check and main; one alone is main's."""
    names = ("prepare", "served-check", "main") if len(states) == 3 else ("main",)
    made = [{"name": name, "state": state} for name, state in zip(names, states, strict=True)]
    return {
        "metadata": {"name": "bot-publish-1-x", "uid": "uid-pod"},
        "status": {
            "phase": phase,
            "startTime": ts(80),
            "initContainerStatuses": made[:-1],
            "containerStatuses": made[-1:],
        },
    }


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "evaluating, merging and checking the gate"),
        (pod({"running": {}}), "evaluating, merging and checking the gate"),
        (pod({"running": {}}, waiting(), waiting()), "evaluating and merging"),
        (
            pod(ended(0), {"running": {}}, waiting()),
            "asking the serving image whether it answers as the trained model does",
        ),
        (
            pod(ended(0), ended(70), waiting(), phase="Failed"),
            "asking the serving image whether it answers as the trained model does",
        ),
        (pod(ended(0), ended(0), {"running": {}}, phase="Running"), "checking the gate and uploading"),
    ],
)
def test_people_are_told_which_part_runs(found: dict[str, Any] | None, words: str) -> None:
    assert doing(found) == words


def test_a_failed_init_container_is_how_the_pod_ended() -> None:
    failed = pod(ended(0), ended(77, "why"), waiting(), phase="Failed")
    found = terminated(failed)
    assert found is not None
    assert (found.container, found.exit_code, found.message) == ("served-check", 77, "why")
    assert pod_over(failed, ())


def test_while_it_goes_on_nothing_has_ended() -> None:
    """Also not for a Deployment's pod, whose init container is started again."""
    for states in ((ended(0), {"running": {}}, waiting()), (ended(1), waiting(), waiting())):
        assert terminated(pod(*states)) is None
        assert not pod_over(pod(*states), ())


def test_the_end_of_main_is_the_end_where_the_others_succeeded() -> None:
    found = terminated(pod(ended(0), ended(0), ended(76, "gate"), phase="Failed"))
    assert found is not None
    assert (found.container, found.exit_code) == ("main", 76)


def test_an_image_that_cannot_be_pulled_is_named_with_the_time_its_turn_came() -> None:
    stuck = pod(ended(0, at=140), waiting("ImagePullBackOff", 'Back-off pulling image "vllm:nope"'), waiting())
    assert pending_cause(stuck) == ("ImagePullBackOff", 'Back-off pulling image "vllm:nope"')
    assert held_up(stuck) == ('ImagePullBackOff: Back-off pulling image "vllm:nope"', ts(140))
    assert held_up(pod(waiting("ErrImagePull", "no"), waiting(), waiting())) == ("ErrImagePull: no", ts(80))
    assert held_up(pod(ended(0), waiting(), waiting())) is None


def test_what_was_measured_before_the_check_failed_is_kept() -> None:
    before = report(0, "ready", metrics=METRICS)
    found = read_report(pod(ended(0, before), ended(77, report(77, "too late")), waiting(), phase="Failed"))
    assert found is not None
    assert (found.message, found.exit_code) == ("too late", 77)
    assert found.metrics["exactMatch"].final == 0.9


def test_a_report_of_prepare_is_not_the_pods_while_it_goes_on() -> None:
    assert read_report(pod(ended(0, report(0, "ready", metrics=METRICS)), {"running": {}}, waiting())) is None


def test_a_kill_for_memory_names_the_container_and_its_limit() -> None:
    killed = terminated(pod(ended(0), ended(137, reason="OOMKilled"), waiting(), phase="Failed"))
    assert killed is not None
    assert without_report(killed) == (
        "container served-check was killed for memory by the kernel; "
        "raise spec.publish.servedCheck.resources.limits.memory"
    )
    first = terminated(pod(ended(137, reason="OOMKilled"), waiting(), waiting(), phase="Failed"))
    assert first is not None
    assert "raise spec.publish.resources.limits.memory" in (without_report(first) or "")


def test_an_image_without_python_is_said_in_the_kubelets_words() -> None:
    message = 'exec: "python3": executable file not found in $PATH'
    found = terminated(pod(ended(0), ended(128, message, reason="StartError"), waiting(), phase="Failed"))
    assert found is not None
    assert without_report(found) == f"container served-check could not be started: {message}"
