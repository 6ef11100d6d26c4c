"""What a kubelet says of a pod: phase, container statuses and conditions, from the state of its process."""

from __future__ import annotations

from typing import Any

from fakeapi.jsontools import copy, rfc3339
from fakeapi.pods_api import set_condition

from .process import Exit, Process

Obj = dict[str, Any]


def _containers(pod: Obj, group: str, state: Obj, *, ready: bool, started: bool, restarts: int, last: Obj) -> list[Obj]:
    return [
        {
            "name": c["name"],
            "image": c["image"],
            "imageID": f"sha256:{c['image']}",
            "ready": ready,
            "restartCount": restarts,
            "started": started,
            "state": copy(state),
            **({"lastState": copy(last)} if last else {}),
        }
        for c in pod["spec"][group]
    ]


def terminated(gone: Exit) -> Obj:
    out: Obj = {"exitCode": gone.code, "reason": gone.reason, "finishedAt": rfc3339(gone.at)}
    if gone.message:
        out["message"] = gone.message[:4096]
    return {"terminated": out}


def starting(pod: Obj, now: float) -> Obj:
    """The pod as its node first reports it."""
    new: Obj = copy(pod)
    status = new["status"]
    status["phase"] = "Pending"
    status["startTime"] = rfc3339(now)
    status["hostIP"] = "10.0.0.1"
    reason = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
    waiting = {"waiting": {"reason": reason}}
    status["containerStatuses"] = _containers(
        pod, "containers", waiting, ready=False, started=False, restarts=0, last={}
    )
    set_condition(new, "Ready", "False", now, reason="ContainersNotReady")
    return new


def ended(pod: Obj, gone: Exit, process: Process | None, now: float) -> Obj:
    new: Obj = copy(pod)
    restarts = process.restarts if process is not None else 0
    last = terminated(process.last) if process is not None and process.last is not None else {}
    in_init = process is not None and process.has_init and process.init_exit is gone
    state = {"waiting": {"reason": "PodInitializing"}} if in_init else terminated(gone)
    new["status"]["phase"] = "Succeeded" if gone.code == 0 else "Failed"
    new["status"]["containerStatuses"] = _containers(
        pod, "containers", state, ready=False, started=False, restarts=restarts, last=last
    )
    if in_init:
        new["status"]["initContainerStatuses"] = _init(pod, process)
    set_condition(new, "Ready", "False", now, reason="PodFailed")
    return new


def pulling(pod: Obj) -> Obj:
    """The image cannot be had."""
    new: Obj = copy(pod)
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    new["status"]["containerStatuses"] = _containers(
        pod, "containers", waiting, ready=False, started=False, restarts=0, last={}
    )
    return new


def current(pod: Obj, process: Process, now: float, address: str) -> Obj:
    """Of a pod whose process has left the stage of `starting` and has not ended for good."""
    new: Obj = copy(pod)
    status = new["status"]
    if address and not status.get("podIP"):
        status["podIP"] = address
        status["podIPs"] = [{"ip": address}]
    if pod["spec"].get("initContainers"):
        status["initContainerStatuses"] = _init(pod, process)
    initialised = process.running is not None or process.last is not None
    status["phase"] = "Running" if initialised else "Pending"
    ready = process.ready(now)
    status["containerStatuses"] = _containers(
        pod,
        "containers",
        _state(process),
        ready=ready,
        started=process.running is not None,
        restarts=process.restarts,
        last=terminated(process.last) if process.last is not None else {},
    )
    set_condition(new, "Ready", str(ready), now, reason="" if ready else "ContainersNotReady")
    return new


def _state(process: Process) -> Obj:
    if process.running is not None:
        return {"running": {"startedAt": rfc3339(process.running)}}
    if process.last is not None:
        return {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
    return {"waiting": {"reason": "PodInitializing"}}


def _init(pod: Obj, process: Process | None) -> list[Obj]:
    gone = process.init_exit if process is not None else None
    running = process.init_running if process is not None else None
    restarts = process.init_restarts if process is not None else 0
    if running is not None:
        state: Obj = {"running": {"startedAt": rfc3339(running)}}
    elif gone is not None and gone.code != 0 and process is not None and process.back_at is not None:
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
    elif gone is not None:
        state = terminated(gone)
    else:
        state = {"waiting": {"reason": "PodInitializing"}}
    last = terminated(gone) if gone is not None and gone.code != 0 and "terminated" not in state else {}
    done = gone is not None and gone.code == 0
    return _containers(pod, "initContainers", state, ready=done, started=False, restarts=restarts, last=last)
