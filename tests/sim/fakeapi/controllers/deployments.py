"""The Deployment and ReplicaSet controllers.

Templates of this project's Deployments never change, so a rollout inside one Deployment is not simulated: a changed
template gets a ReplicaSet of its own and the old one goes to 0 at once. Scaling is the real thing: pods appear one by
one, and those that go are chosen as the real controller ranks them.
"""

from __future__ import annotations

import random
from typing import Any

from fakeapi.jsontools import copy, digest, rfc3339
from fakeapi.server import FakeApiServer

from .base import Controller, Obj, active, condition, finished, is_true

HASH = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


def owner(obj: Obj, kind: str) -> Obj:
    """A controller's ownerReference to `obj`."""
    meta = obj["metadata"]
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controlled_by(obj: Obj, uid: str) -> bool:
    return any(r["uid"] == uid and r.get("controller") for r in obj["metadata"].get("ownerReferences") or [])


class DeploymentController(Controller):
    name = "deployment-controller"

    def __init__(self, server: FakeApiServer) -> None:
        super().__init__(server)
        self._hashes: dict[tuple[str, int], str] = {}

    def step(self) -> bool:
        sets = self.cluster.objects("apps", "replicasets")
        for deployment in self.cluster.objects("apps", "deployments"):
            if "deletionTimestamp" in deployment["metadata"]:
                continue
            own = [s for s in sets if controlled_by(s, deployment["metadata"]["uid"])]
            if self._sync(deployment, own):
                return True
        return False

    def _sync(self, deployment: Obj, own: list[Obj]) -> bool:
        wanted = self._hash(deployment)
        current = next((s for s in own if s["metadata"]["labels"].get(HASH) == wanted), None)
        if current is None:
            self._create_set(deployment, wanted, len(own) + 1)
            return True
        for replicas, found in [(deployment["spec"]["replicas"], current), *((0, s) for s in own if s is not current)]:
            if found["spec"]["replicas"] != replicas:
                new = copy(found)
                new["spec"]["replicas"] = replicas
                self.cluster.put("apps", "replicasets", new)
                return True
        return self._report(deployment, own, current)

    def _hash(self, deployment: Obj) -> str:
        """Of the template, which changes with the generation at most."""
        key = (deployment["metadata"]["uid"], deployment["metadata"]["generation"])
        if key not in self._hashes:
            self._hashes[key] = digest(deployment["spec"]["template"])[:10]
        return self._hashes[key]

    def _create_set(self, deployment: Obj, wanted: str, number: int) -> None:
        meta = deployment["metadata"]
        template = copy(deployment["spec"]["template"])
        template.setdefault("metadata", {}).setdefault("labels", {})[HASH] = wanted
        selector = copy(deployment["spec"]["selector"])
        selector.setdefault("matchLabels", {})[HASH] = wanted
        body = {
            "metadata": {
                "name": f"{meta['name']}-{wanted}",
                "labels": dict(template["metadata"]["labels"]),
                "annotations": {_REVISION: str(number)},
                "ownerReferences": [owner(deployment, "Deployment")],
            },
            "spec": {"replicas": deployment["spec"]["replicas"], "selector": selector, "template": template},
        }
        self.cluster.create("apps", "replicasets", meta["namespace"], body)

    def _report(self, deployment: Obj, own: list[Obj], current: Obj) -> bool:
        counts = [s.get("status") or {} for s in own]
        total = sum(c.get("replicas", 0) for c in counts)
        ready = sum(c.get("readyReplicas", 0) for c in counts)
        wanted = deployment["spec"]["replicas"]
        status: Obj = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": total,
            "updatedReplicas": (current.get("status") or {}).get("replicas", 0),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": max(0, max(total, wanted) - ready),
        }
        available = ready >= wanted - wanted // 4
        reason = "MinimumReplicasAvailable" if available else "MinimumReplicasUnavailable"
        status = {k: v for k, v in status.items() if v}
        status["conditions"] = [
            self._condition(deployment, "Available", available, reason),
            self._condition(deployment, "Progressing", True, "NewReplicaSetAvailable"),
        ]
        if status == deployment.get("status"):
            return False
        self.cluster.put("apps", "deployments", {**deployment, "status": status}, "status")
        return True

    def _condition(self, obj: Obj, kind: str, true: bool, reason: str) -> Obj:
        found = condition(obj, kind)
        status = "True" if true else "False"
        if found is not None and (found["status"], found["reason"]) == (status, reason):
            return found
        now = rfc3339(self.cluster.now)
        new = {"type": kind, "status": status, "reason": reason, "message": reason}
        return {**new, "lastTransitionTime": now, "lastUpdateTime": now}


class ReplicaSetController(Controller):
    name = "replicaset-controller"

    def __init__(self, server: FakeApiServer, rng: random.Random | None = None) -> None:
        super().__init__(server)
        self._rng = rng or random.Random(1)

    def step(self) -> bool:
        return any(
            self._sync(found, self.cluster.owned_pods(found["metadata"]["uid"]))
            for found in self.cluster.objects("apps", "replicasets")
            if "deletionTimestamp" not in found["metadata"]
        )

    def _sync(self, found: Obj, pods: list[Obj]) -> bool:
        alive = [p for p in pods if active(p)]
        wanted = found["spec"]["replicas"]
        if len(alive) < wanted:
            self._create_pod(found)
            return True
        if len(alive) > wanted:
            self.cluster.delete("", "pods", min(alive, key=_rank))
            return True
        for pod in pods:
            # Evicted and the like: the real garbage collector lets thousands lie; here each goes at once.
            if finished(pod) and "deletionTimestamp" not in pod["metadata"]:
                self.cluster.delete("", "pods", pod)
                return True
        ready = sum(is_true(p, "Ready") for p in alive)
        status: Obj = {
            "replicas": len(alive),
            "fullyLabeledReplicas": len(alive),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "observedGeneration": found["metadata"]["generation"],
        }
        status = {k: v for k, v in status.items() if v or k == "replicas"}
        if status == found.get("status"):
            return False
        self.cluster.put("apps", "replicasets", {**found, "status": status}, "status")
        return True

    def _create_pod(self, found: Obj) -> None:
        meta, template = found["metadata"], copy(found["spec"]["template"])
        suffix = "".join(self._rng.choices(_SUFFIX, k=5))
        pod = {
            "metadata": {
                "name": f"{meta['name']}-{suffix}",
                "generateName": f"{meta['name']}-",
                "labels": dict(template.get("metadata", {}).get("labels") or {}),
                "annotations": dict(template.get("metadata", {}).get("annotations") or {}),
                "ownerReferences": [owner(found, "ReplicaSet")],
            },
            "spec": template["spec"],
        }
        self.cluster.create("", "pods", meta["namespace"], pod)


def _rank(pod: Obj) -> tuple[Any, ...]:
    """Smallest goes first: unassigned, pending, not ready, ready for the shortest time, restarted often, youngest."""
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}
    ready = condition(pod, "Ready")
    is_ready = ready is not None and ready["status"] == "True"
    since = ready["lastTransitionTime"] if ready is not None and is_ready else ""
    restarts = max((c.get("restartCount", 0) for c in pod["status"].get("containerStatuses") or []), default=0)
    return (
        bool(pod["spec"].get("nodeName")),
        phases.get(pod["status"].get("phase", "Pending"), 0),
        is_ready,
        _newest_first(since),
        -restarts,
        _newest_first(pod["metadata"]["creationTimestamp"]),
        pod["metadata"]["name"],
    )


def _newest_first(stamp: str) -> tuple[int, ...]:
    return tuple(-ord(c) for c in stamp)
