"""Does the cluster do what a gang needs? One Job of two pods on two nodes finds out in seconds.

Names of a headless Service resolve, pods of different nodes exchange bytes, a ClusterIP answers by name, the artifact
store is reachable from a pod: these four catch most mistakes of a bring-up, before a training run hides them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from e2e.cluster.cluster import Cluster, Manifest
from e2e.cluster.process import NotUp, wait_for

NAMESPACE = "finetune-check"
SERVER, PORT = "check-0", 5000


def manifests(image: str, endpoint: str) -> list[Manifest]:
    script = (Path(__file__).parent / "check_pod.py").read_text()
    headless = f"check.{NAMESPACE}.svc.cluster.local"
    env = {"STORE": endpoint, "PEER": f"{SERVER}.{headless}", "SERVICE": f"echo.{NAMESPACE}.svc.cluster.local"}
    container = {
        "name": "check",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", script],
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    apart = {"labelSelector": {"matchLabels": {"app": "check"}}, "topologyKey": "kubernetes.io/hostname"}
    pod_spec = {
        "subdomain": "check",
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
        "containers": [container],
    }
    job = {
        "completionMode": "Indexed",
        "completions": 2,
        "parallelism": 2,
        "backoffLimit": 0,
        "template": {"metadata": {"labels": {"app": "check"}}, "spec": pod_spec},
    }
    ports = [{"port": PORT}]
    index = {"app": "check", "batch.kubernetes.io/job-completion-index": "0"}
    peers = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"app": "check"}, "ports": ports}
    return [
        _object("v1", "Service", "check", peers),
        _object("v1", "Service", "echo", {"selector": index, "ports": ports}),
        _object("batch/v1", "Job", "check", job),
    ]


def _object(api: str, kind: str, name: str, spec: dict[str, Any]) -> Manifest:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}


def run(cluster: Cluster, seconds: float = 120) -> str:
    """Raise NotUp with the pods' own words if anything fails; what the client pod printed otherwise."""
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    cluster.apply(*manifests(cluster.images["operator"], cluster.s3.endpoint))

    def finished() -> bool:
        state = cluster.get("job", "check", "-n", NAMESPACE)["status"]
        if state.get("failed"):
            raise NotUp(f"The acceptance check failed:\n{_words(cluster)}")
        return bool(state.get("succeeded") == 2)

    wait_for("the acceptance check", finished, seconds, lambda: _words(cluster))
    words = _words(cluster)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    return words


def _words(cluster: Cluster) -> str:
    """What the check's pods printed, or why they did not start."""
    lines = []
    for pod in cluster.get("pods", "-n", NAMESPACE)["items"]:
        name = pod["metadata"]["name"]
        if pod["status"]["phase"] == "Pending":
            lines.append(f"{name}: {json.dumps(pod['status'].get('containerStatuses') or pod['status'], indent=0)}")
        else:
            lines.append(cluster.kubectl("logs", name, "-n", NAMESPACE).strip())
    return "\n".join(line for line in lines if line)
