"""What a publish pod shows: which of its containers works, what holds it up, what its last words are.

Its containers run one after the other; the first that fails ends the pod, and its words are the pod's.
"""

from __future__ import annotations

from pydantic import ValidationError

from finetune_api.reports import PublishReport
from finetune_operator.core.builders.publish import PREPARE, SERVED_CHECK
from finetune_operator.core.objects import (
    Terminated,
    container_ended,
    init_containers,
    terminated,
    waiting_cause,
)
from finetune_operator.core.types import Obj

_DOING = {
    PREPARE: "evaluating and merging",
    SERVED_CHECK: "asking the serving image whether it answers as the trained model does",
}
_WITHOUT_CHECK = "evaluating, merging and checking the gate"
_FINISHING = "checking the gate and uploading"
_UNSTARTED = ("StartError", "ContainerCannotRun")
_MEMORY_FIELD = {SERVED_CHECK: "spec.publish.servedCheck.resources.limits.memory"}


def doing(pod: Obj | None) -> str:
    """For people, while it works."""
    stages = list(init_containers(pod)) if pod is not None else []
    for status in stages:
        ended = container_ended(status)
        if ended is None or ended.exit_code != 0:
            return _DOING.get(str(status.get("name")), _WITHOUT_CHECK)
    return _FINISHING if stages else _WITHOUT_CHECK


def held_up(pod: Obj) -> tuple[str, str | None] | None:
    """(why a container cannot start, in words; since when its turn is, where the kubelet said)."""
    cause = waiting_cause(pod)
    if cause is None:
        return None
    before = [ended for status in init_containers(pod) if (ended := container_ended(status)) is not None]
    since = before[-1].finished_at if before else (pod.get("status") or {}).get("startTime")
    return f"{cause[0]}: {cause[1]}", since


def read_report(pod: Obj | None) -> PublishReport | None:
    """The last words of the container that ended the pod; what was measured before it failed is not lost."""
    report = _parse(terminated(pod)) if pod is not None else None
    if pod is None or report is None or report.metrics:
        return report
    for status in init_containers(pod):
        before = _parse(container_ended(status))
        if before is not None and before.metrics:
            return report.model_copy(update={"metrics": before.metrics, "gate": report.gate or before.gate})
    return report


def without_report(ended: Terminated) -> str | None:
    """What the kubelet says of a container that could not speak for itself; None: no more than its exit code."""
    if ended.reason == "OOMKilled":
        field = _MEMORY_FIELD.get(ended.container, "spec.publish.resources.limits.memory")
        return f"container {ended.container} was killed for memory by the kernel; raise {field}"
    if ended.reason in _UNSTARTED:
        return f"container {ended.container} could not be started: {ended.message}"
    return None


def _parse(ended: Terminated | None) -> PublishReport | None:
    if ended is None or not ended.message:
        return None
    try:
        return PublishReport.model_validate_json(ended.message)
    except ValidationError:
        return None
