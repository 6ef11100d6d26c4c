"""Questions about Kubernetes objects as they are on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from finetune_operator.core.names import CONTAINER, STORAGE_CONTAINER
from finetune_operator.core.types import Obj


def name_of(obj: Obj) -> str:
    return str(obj["metadata"]["name"])


def uid_of(obj: Obj) -> str:
    return str(obj["metadata"].get("uid") or "")


def labels_of(obj: Obj) -> Obj:
    return obj["metadata"].get("labels") or {}


def is_deleting(obj: Obj) -> bool:
    return obj["metadata"].get("deletionTimestamp") is not None


def owned_by(obj: Obj, uid: str) -> bool:
    return any(ref.get("uid") == uid for ref in obj["metadata"].get("ownerReferences") or ())


def condition(obj: Obj, kind: str) -> Obj | None:
    for entry in (obj.get("status") or {}).get("conditions") or ():
        if entry.get("type") == kind:
            return entry  # type: ignore[no-any-return]
    return None


def has_condition(obj: Obj, kind: str) -> bool:
    entry = condition(obj, kind)
    return entry is not None and entry.get("status") == "True"


def job_finished(job: Obj) -> bool:
    return has_condition(job, "Complete") or has_condition(job, "Failed")


def job_failing(job: Obj) -> bool:
    return has_condition(job, "FailureTarget") or has_condition(job, "Failed")


def pod_index(pod: Obj) -> int:
    """The completion index; 0 for pods that are not part of an Indexed Job."""
    text = labels_of(pod).get("batch.kubernetes.io/job-completion-index")
    return int(text) if text is not None else 0


def pod_phase(pod: Obj) -> str:
    return str((pod.get("status") or {}).get("phase", "Pending"))


@dataclass(frozen=True)
class Terminated:
    exit_code: int
    reason: str
    message: str
    finished_at: str | None
    container: str = CONTAINER


def _container_status(pod: Obj) -> Obj | None:
    for entry in (pod.get("status") or {}).get("containerStatuses") or ():
        if entry.get("name") == CONTAINER:
            return entry  # type: ignore[no-any-return]
    return None


def init_containers(pod: Obj) -> Iterable[Obj]:
    """Statuses of the containers that run before `main`, in their order."""
    return (pod.get("status") or {}).get("initContainerStatuses") or ()


def container_ended(status: Obj | None) -> Terminated | None:
    """How a container ended, if it did and the kubelet saw it."""
    ended = ((status or {}).get("state") or {}).get("terminated")
    if status is None or ended is None:
        return None
    return Terminated(
        exit_code=int(ended.get("exitCode", 1)),
        reason=str(ended.get("reason", "")),
        message=str(ended.get("message", "")),
        finished_at=ended.get("finishedAt"),
        container=str(status.get("name", CONTAINER)),
    )


def terminated(pod: Obj) -> Terminated | None:
    """How the pod's work ended: its container `main`, or the init container that failed for good before it."""
    if pod_phase(pod) == "Failed":
        for status in init_containers(pod):
            ended = container_ended(status)
            if ended is not None and ended.exit_code != 0 and ended.container != STORAGE_CONTAINER:
                return ended
    return container_ended(_container_status(pod))


def pod_over(pod: Obj, gone: Iterable[str]) -> bool:
    """No process of this pod runs any more, as far as the API server knows."""
    return uid_of(pod) in gone or pod_phase(pod) in ("Succeeded", "Failed") or terminated(pod) is not None


def pod_running(pod: Obj) -> bool:
    return pod_phase(pod) == "Running" and terminated(pod) is None


def pod_ip(pod: Obj) -> str | None:
    ip = (pod.get("status") or {}).get("podIP")
    return str(ip) if ip else None


def pod_node(pod: Obj) -> str | None:
    node = (pod.get("spec") or {}).get("nodeName")
    return str(node) if node else None


_QUIET_WAITING = ("", "ContainerCreating", "PodInitializing")


def pending_cause(pod: Obj) -> tuple[str, str] | None:
    """(reason, message) of what keeps a pod from running, if the scheduler or the kubelet says so."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        return str(scheduled.get("reason", "Unschedulable")), str(scheduled.get("message", ""))
    return waiting_cause(pod)


def waiting_cause(pod: Obj) -> tuple[str, str] | None:
    """(reason, message) of the first container, in the order they run, that the kubelet cannot start."""
    for status in (*init_containers(pod), _container_status(pod)):
        waiting: Any = ((status or {}).get("state") or {}).get("waiting") or {}
        reason = str(waiting.get("reason", ""))
        if reason not in _QUIET_WAITING:
            return reason, str(waiting.get("message", ""))
    return None
