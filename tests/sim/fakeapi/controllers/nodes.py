"""Nodes that fall silent, taints that evict, and pods that nobody will ever end."""

from __future__ import annotations

from fakeapi.jsontools import copy, parse_time, rfc3339
from fakeapi.pods_api import set_condition
from fakeapi.server import FakeApiServer

from .base import Controller, Obj, condition, finished, is_true
from .kubelet import Kubelet
from .scheduler import tolerates

UNREACHABLE = "node.kubernetes.io/unreachable"
GRACE = 40.0


class NodeLifecycle(Controller):
    """NotReady after 40 s of silence, the unreachable taints, and eviction by NoExecute taints."""

    name = "node-controller"

    def __init__(self, server: FakeApiServer, kubelet: Kubelet) -> None:
        super().__init__(server)
        self._kubelet = kubelet
        self._silent_since: dict[str, float] = {}

    def step(self) -> bool:
        return any(self._check(node) for node in self.cluster.nodes()) or self._evict()

    def due(self) -> float | None:
        times = [since + GRACE for since in self._silent_since.values()]
        times += [when for _, when in self._evictions()]
        return min((t for t in times if t > self.cluster.now), default=None)

    def _check(self, node: Obj) -> bool:
        name = node["metadata"]["name"]
        silent = name in self._kubelet.unreachable
        if silent:
            since = self._silent_since.setdefault(name, self.cluster.now)
            if self.cluster.now < since + GRACE:
                return False
        else:
            self._silent_since.pop(name, None)
        ready = condition(node, "Ready")
        wanted = "Unknown" if silent else "True"
        if ready is None or ready["status"] != wanted:
            new = copy(node)
            reason = "NodeStatusUnknown" if silent else "KubeletReady"
            set_condition(new, "Ready", wanted, self.cluster.now, reason=reason)
            self.cluster.put("", "nodes", new, "status")
            return True
        taints = node["spec"].get("taints") or []
        has = any(t["key"] == UNREACHABLE for t in taints)
        if silent == has:
            return self._unready_pods(name) if silent else False
        new = copy(node)
        new["spec"]["taints"] = [t for t in taints if t["key"] != UNREACHABLE]
        if silent:
            at = rfc3339(self.cluster.now)
            for effect in ("NoSchedule", "NoExecute"):
                new["spec"]["taints"].append({"key": UNREACHABLE, "effect": effect, "timeAdded": at})
        self.cluster.put("", "nodes", new)
        return True

    def _unready_pods(self, name: str) -> bool:
        for pod in self.cluster.pods():
            if pod["spec"].get("nodeName") == name and is_true(pod, "Ready"):
                new = copy(pod)
                set_condition(new, "Ready", "False", self.cluster.now, reason="NodeNotReady")
                self.cluster.put("", "pods", new, "status")
                return True
        return False

    def _evictions(self) -> list[tuple[Obj, float]]:
        """Pods that a NoExecute taint will evict, and when."""
        taints = {
            node["metadata"]["name"]: [t for t in node["spec"].get("taints") or [] if t["effect"] == "NoExecute"]
            for node in self.cluster.nodes()
        }
        out = []
        for pod in self.cluster.pods():
            if finished(pod) or "deletionTimestamp" in pod["metadata"]:
                continue
            whens = []
            for taint in taints.get(pod["spec"].get("nodeName", ""), []):
                added = parse_time(taint["timeAdded"]) if taint.get("timeAdded") else 0.0
                toleration = tolerates(pod, taint)
                if toleration is None:
                    whens.append(added)
                elif toleration.get("tolerationSeconds") is not None:
                    whens.append(added + toleration["tolerationSeconds"])
            if whens:
                out.append((pod, min(whens)))
        return out

    def _evict(self) -> bool:
        for pod, when in self._evictions():
            if when <= self.cluster.now:
                new = copy(pod)
                set_condition(
                    new,
                    "DisruptionTarget",
                    "True",
                    self.cluster.now,
                    reason="DeletionByTaintManager",
                    message="Taint manager: deleting due to NoExecute taint",
                )
                self.cluster.put("", "pods", new, "status")
                self.cluster.delete("", "pods", pod)
                return True
        return False


class PodCollector(Controller):
    """Ends pods that no kubelet can: unscheduled ones that were deleted, and those of nodes that no longer exist."""

    name = "pod-garbage-collector"

    def step(self) -> bool:
        names = {node["metadata"]["name"] for node in self.cluster.nodes()}
        for pod in self.cluster.pods():
            node = pod["spec"].get("nodeName")
            deleting = "deletionTimestamp" in pod["metadata"]
            orphaned = node is not None and node not in names
            if not orphaned and not (deleting and not node):
                continue
            if not finished(pod):
                new = copy(pod)
                new["status"]["phase"] = "Failed"
                if orphaned:
                    set_condition(
                        new,
                        "DisruptionTarget",
                        "True",
                        self.cluster.now,
                        reason="DeletionByPodGC",
                        message="PodGC: node no longer exists",
                    )
                self.cluster.put("", "pods", new, "status")
                return True
            if not deleting or pod["metadata"].get("deletionGracePeriodSeconds"):
                self.cluster.delete("", "pods", pod, gracePeriodSeconds=0)
                return True
        return False
