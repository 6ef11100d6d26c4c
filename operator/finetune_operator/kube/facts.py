"""What the store compares and indexes of an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_operator.core.objects import uid_of
from finetune_operator.core.types import Obj


def version_of(obj: Obj) -> int:
    try:
        return int(obj["metadata"].get("resourceVersion") or 0)
    except ValueError:
        return 0


def controller_uid(obj: Obj) -> str | None:
    ref = controller_of(obj)
    return str(ref.get("uid")) if ref is not None else None


def controller_of(obj: Obj) -> Mapping[str, Any] | None:
    for ref in obj["metadata"].get("ownerReferences") or ():
        if ref.get("controller"):
            return ref  # type: ignore[no-any-return]
    return None


def created(obj: Obj) -> str:
    """Sorts by age; empty where the API server has not said it."""
    return str(obj["metadata"].get("creationTimestamp") or "")


def node_of(pod: Obj) -> str | None:
    return (pod.get("spec") or {}).get("nodeName")


def node_state(node: Obj) -> tuple[Any, ...]:
    """What a plan looks at; heartbeats are not part of it."""
    conditions = [(c.get("type"), c.get("status")) for c in node["status"]["conditions"]]
    return node["metadata"].get("deletionTimestamp"), node["spec"], conditions


def service_state(service: Obj) -> tuple[Any, ...]:
    meta = service["metadata"]
    return uid_of(service), meta.get("deletionTimestamp"), service.get("spec")
