"""The empty Go object of each kind, as it is serialised: what a creation is compared with.

A struct that is not a pointer is there before anybody sets it (`spec: {}`), so whoever creates the object never
"adds" the struct itself, only the fields in it.
"""

from __future__ import annotations

from typing import Any

_TEMPLATE: dict[str, Any] = {"metadata": {}, "spec": {"containers": None}}

_ZERO: dict[tuple[str, str], dict[str, Any]] = {
    ("", "Service"): {"spec": {}, "status": {"loadBalancer": {}}},
    ("", "Pod"): {"spec": {"containers": None}, "status": {}},
    ("", "Node"): {"spec": {}, "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}}},
    ("", "Namespace"): {"spec": {}, "status": {}},
    ("", "PersistentVolumeClaim"): {"spec": {"resources": {}}, "status": {}},
    ("", "Event"): {
        "involvedObject": {},
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    },
    ("batch", "Job"): {"spec": {"template": _TEMPLATE}, "status": {}},
    ("apps", "Deployment"): {"spec": {"selector": None, "template": _TEMPLATE, "strategy": {}}, "status": {}},
    ("apps", "ReplicaSet"): {"spec": {"selector": None, "template": _TEMPLATE}, "status": {"replicas": 0}},
    ("coordination.k8s.io", "Lease"): {"spec": {}},
    ("networking.k8s.io", "NetworkPolicy"): {"spec": {"podSelector": {}}},
    ("policy", "PodDisruptionBudget"): {
        "spec": {},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
    },
}


def zero(group: str, kind: str) -> dict[str, Any]:
    return {"metadata": {}, **_ZERO.get((group, kind), {})}


def fill(obj: dict[str, Any], empty: dict[str, Any]) -> dict[str, Any]:
    """`obj` with the parts that are always serialised."""
    for key, value in empty.items():
        if isinstance(value, dict):
            obj[key] = fill(obj.get(key) or {}, value)
        elif key not in obj and key != "containers":
            obj[key] = value
    return obj
