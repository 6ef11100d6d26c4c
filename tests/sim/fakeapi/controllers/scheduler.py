"""Binds pods to nodes: capacity, nodeSelector, required node affinity, taints; or says why it cannot."""

from __future__ import annotations

from fakeapi.jsontools import copy, dig
from fakeapi.pods_api import bind, set_condition

from .base import Controller, Obj, finished

_SUFFIXES = {
    "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


def quantity(text: str | int | float) -> float:
    text = str(text)
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if text.endswith(suffix):
            return float(text[: -len(suffix)]) * _SUFFIXES[suffix]
    return float(text)


def asks(pod: Obj) -> dict[str, float]:
    """The sum over containers, or the largest init container where that is more."""
    total: dict[str, float] = {"pods": 1.0}
    for container in pod["spec"]["containers"]:
        for name, value in (dig(container, "resources", "requests") or {}).items():
            total[name] = total.get(name, 0.0) + quantity(value)
    for container in pod["spec"].get("initContainers") or []:
        for name, value in (dig(container, "resources", "requests") or {}).items():
            total[name] = max(total.get(name, 0.0), quantity(value))
    return total


def tolerates(pod: Obj, taint: Obj) -> Obj | None:
    """The toleration that covers the taint, or None."""
    for toleration in pod["spec"].get("tolerations") or []:
        if toleration.get("effect") not in (None, "", taint["effect"]):
            continue
        exists = toleration.get("operator", "Equal") == "Exists"
        if not toleration.get("key"):
            if exists:
                return dict(toleration)
            continue
        if toleration["key"] == taint["key"] and (exists or toleration.get("value", "") == taint.get("value", "")):
            return dict(toleration)
    return None


def _expression(rule: Obj, labels: dict[str, str]) -> bool:
    have, values = labels.get(rule["key"]), rule.get("values") or []
    match rule["operator"]:
        case "In":
            return have in values
        case "NotIn":
            return have not in values
        case "Exists":
            return have is not None
        case "DoesNotExist":
            return have is None
        case other:
            raise ValueError(f"node affinity operator {other} is not simulated")


def selects(pod: Obj, node: Obj) -> bool:
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(k) != v for k, v in (pod["spec"].get("nodeSelector") or {}).items()):
        return False
    affinity = dig(pod["spec"], "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    if not affinity:
        return True
    name = {"metadata.name": node["metadata"]["name"]}
    return any(
        all(_expression(rule, labels) for rule in term.get("matchExpressions") or [])
        and all(_expression(rule, name) for rule in term.get("matchFields") or [])
        for term in affinity["nodeSelectorTerms"]
    )


class Scheduler(Controller):
    name = "kube-scheduler"

    def step(self) -> bool:
        for pod in self.cluster.pods():
            spec = pod["spec"]
            if spec.get("nodeName") or spec.get("schedulingGates") or "deletionTimestamp" in pod["metadata"]:
                continue
            if finished(pod):
                continue
            reasons: dict[str, int] = {}
            chosen = None
            for node in self.cluster.nodes():
                why = self._refuses(pod, node)
                if why is None:
                    chosen = node["metadata"]["name"]
                    break
                reasons[why] = reasons.get(why, 0) + 1
            if chosen is not None:
                with self.cluster._signed():
                    bind(self.cluster.server, pod, chosen)
                return True
            listed = ", ".join(f"{count} {why}" for why, count in sorted(reasons.items()))
            message = f"0/{len(self.cluster.nodes())} nodes are available: {listed}."
            new = copy(pod)
            if set_condition(new, "PodScheduled", "False", self.cluster.now, reason="Unschedulable", message=message):
                self.cluster.put("", "pods", new, "status")
                return True
        return False

    def _refuses(self, pod: Obj, node: Obj) -> str | None:
        if not selects(pod, node):
            return "node(s) didn't match Pod's node affinity/selector"
        if node["spec"].get("unschedulable"):
            return "node(s) were unschedulable"
        for taint in node["spec"].get("taints") or []:
            if taint["effect"] in ("NoSchedule", "NoExecute") and tolerates(pod, taint) is None:
                return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
        free = {k: quantity(v) for k, v in (dig(node, "status", "allocatable") or {}).items()}
        for other in self.cluster.pods():
            if other["spec"].get("nodeName") == node["metadata"]["name"] and not finished(other):
                for name, value in asks(other).items():
                    free[name] = free.get(name, 0.0) - value
        for name, value in asks(pod).items():
            if value > free.get(name, 0.0) + 1e-9:
                return f"Insufficient {name}"
        return None
