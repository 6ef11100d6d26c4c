"""What the store keeps of an object: only what a plan can use, with shared strings.

Ten thousand jobs with their Jobs and pods must fit in a small container. A pod's spec, a Job's pod template and
managedFields are most of the bytes and never looked at again; equal keys and short strings are kept once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from finetune_operator.core.names import ANNOTATION_RUN_CONFIG

Json = dict[str, Any]
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SHARED_MAX = 64
_POD_SPEC = ("nodeName", "terminationGracePeriodSeconds", "schedulerName", "hostname")
_POD_STATUS = (
    "phase",
    "reason",
    "message",
    "podIP",
    "startTime",
    "conditions",
    "initContainerStatuses",
    "containerStatuses",
)
_CONTAINER_STATUS = ("name", "state", "lastState", "ready", "restartCount", "exitCode")
_JOB_SPEC_LEFT_OUT = ("template", "selector", "podFailurePolicy", "successPolicy")
_NODE_SPEC = ("taints", "unschedulable", "providerID")


def compact(kind: str, obj: Json) -> Json:
    """A smaller copy of the object; the argument is left as it is."""
    slim = _SLIMMERS.get(kind, _plain)(obj)
    slim["metadata"] = _metadata(obj.get("metadata") or {})
    shared = share(slim)
    assert isinstance(shared, dict)
    return shared


def share(value: Any) -> Any:
    """A copy in which equal keys and short strings are one object. Most values are strings: they need no call each."""
    if isinstance(value, dict):
        out = {}
        for key, item in value.items():
            if isinstance(item, str):
                item = sys.intern(item) if len(item) <= _SHARED_MAX else item
            elif isinstance(item, (dict, list)):
                item = share(item)
            out[sys.intern(key)] = item
        return out
    if isinstance(value, list):
        return [share(v) for v in value]
    if isinstance(value, str) and len(value) <= _SHARED_MAX:
        return sys.intern(value)
    return value


def _metadata(meta: Json) -> Json:
    out = {k: v for k, v in meta.items() if k not in ("managedFields", "selfLink")}
    notes = meta.get("annotations")
    if notes:
        kept = {k: v for k, v in notes.items() if k not in (_LAST_APPLIED, ANNOTATION_RUN_CONFIG)}
        if kept:
            out["annotations"] = kept
        else:
            out.pop("annotations", None)
    return out


def _plain(obj: Json) -> Json:
    return dict(obj)


def _pick(source: Any, names: tuple[str, ...]) -> Json:
    return {k: source[k] for k in names if k in source} if isinstance(source, dict) else {}


def _pod(obj: Json) -> Json:
    status = _pick(obj.get("status"), _POD_STATUS)
    for group in ("initContainerStatuses", "containerStatuses"):
        if group in status:
            status[group] = [_pick(c, _CONTAINER_STATUS) for c in status[group]]
    return {
        "apiVersion": obj.get("apiVersion", "v1"),
        "kind": "Pod",
        "spec": _pick(obj.get("spec"), _POD_SPEC),
        "status": status,
    }


def _job(obj: Json) -> Json:
    out = dict(obj)
    out["spec"] = {k: v for k, v in (obj.get("spec") or {}).items() if k not in _JOB_SPEC_LEFT_OUT}
    return out


def _node(obj: Json) -> Json:
    conditions = [
        _pick(c, ("type", "status", "reason", "lastTransitionTime"))
        for c in (obj.get("status") or {}).get("conditions") or []
    ]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "spec": _pick(obj.get("spec"), _NODE_SPEC),
        "status": {"conditions": conditions},
    }


def _deployment(obj: Json) -> Json:
    """Its pod template is written once and never compared; the record of its revision is an annotation."""
    out = dict(obj)
    out["spec"] = _pick(obj.get("spec"), ("replicas",))
    return out


_SLIMMERS: dict[str, Callable[[Json], Json]] = {"Pod": _pod, "Job": _job, "Node": _node, "Deployment": _deployment}
