"""The cluster as tests and the demo see it, whichever way it was brought up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from kubernetes.client import ApiClient
from kubernetes.config import new_client_from_config

from e2e import tools
from e2e.cluster.addons import S3
from e2e.cluster.process import NotUp, output_of, wait_for
from e2e.tools.places import state_dir

Manifest = Mapping[str, Any]
RECORD = "cluster.json"


def record_file() -> Path:
    return state_dir() / RECORD


def write_record(**facts: Any) -> None:
    """What `Cluster.current()` needs to know: the way it was brought up, and the images it runs."""
    known = json.loads(record_file().read_text()) if record_file().exists() else {}
    record_file().parent.mkdir(parents=True, exist_ok=True)
    partial = record_file().with_suffix(".part")
    partial.write_text(json.dumps(known | facts, indent=1))
    partial.rename(record_file())


class Cluster(ABC):
    """A running cluster. `Cluster.current()` finds it, or says how to get one."""

    nodes: tuple[str, ...]
    gateway_type = "ClusterIP"
    """Of the Service before the Gateway: the narrowest by which this host reaches it."""

    @staticmethod
    def current() -> Cluster:
        """The cluster of this user. Raises NotUp with what to do when there is none."""
        from e2e.cluster.bare import BareCluster
        from e2e.cluster.kind import KindCluster

        ways: dict[str, type[Cluster]] = {"bare": BareCluster, "kind": KindCluster}
        if not record_file().exists():
            raise NotUp("No cluster is up: run `make cluster-up`")
        cluster = ways[json.loads(record_file().read_text())["way"]]()
        if not cluster.answers():
            raise NotUp("The cluster's API server does not answer: run `make cluster-up`, it starts what is missing")
        return cluster

    # What both ways share.

    @property
    def kubeconfig(self) -> Path:
        """Of a cluster administrator."""
        return state_dir() / "kubeconfig"

    @property
    def images(self) -> dict[str, str]:
        """operator, trainer, vllm, vllm-faulty, traefik: the references that the nodes hold."""
        return dict(json.loads(record_file().read_text()).get("images", {}))

    @property
    def s3(self) -> S3:
        """The artifact store: endpoint, access_key, secret_key, bucket, region."""
        from e2e.cluster.addons import s3

        return s3()

    @property
    def gateway(self) -> str:
        """host:port of the Gateway that the chart installed, as this host reaches it. Its listener takes any host name
        under chart.DOMAIN."""
        from e2e.cluster import chart

        service = self.get("service", f"{chart.RELEASE}-gateway", "-n", chart.NAMESPACE)
        return self.gateway_address(service["spec"])

    def gateway_address(self, service: dict[str, Any]) -> str:
        """From the Service's spec."""
        return f"{service['clusterIP']}:{service['ports'][0]['port']}"

    def environment(self) -> dict[str, str]:
        """Variables for a shell: KUBECONFIG, PATH with our kubectl and helm, and the store's credentials."""
        store = self.s3
        path = f"{tools.tool_dir('kubectl')}:{tools.tool_dir('helm')}:{os.environ.get('PATH', '')}"
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": path,
            "AWS_ENDPOINT_URL": store.endpoint,
            "AWS_ACCESS_KEY_ID": store.access_key,
            "AWS_SECRET_ACCESS_KEY": store.secret_key,
            "AWS_REGION": store.region,
        }

    def run(self, *command: str | Path, input: str | None = None) -> str:
        """Run a tool with the cluster's environment; standard output. Raises CommandFailed with its words."""
        return output_of(command, input, os.environ | self.environment())

    def kubectl(self, *args: str, input: str | None = None) -> str:
        return self.run(tools.path("kubectl"), *args, input=input)

    def helm(self, *args: str) -> str:
        return self.run(tools.path("helm"), *args)

    def get(self, *args: str) -> dict[str, Any]:
        """`kubectl get ARGS -o json`, parsed."""
        return dict(json.loads(self.kubectl("get", *args, "-o", "json")))

    @cached_property
    def _client(self) -> ApiClient:
        return new_client_from_config(str(self.kubeconfig))

    def read(self, path: str, **query: str) -> dict[str, Any]:
        """One GET. For waits: a process of kubectl for every look costs a tenth of a second of CPU."""
        url = f"{self._client.configuration.host}{path}?{urlencode(query)}"
        answer = self._client.call_api("GET", url)
        content = answer.read().decode(errors="replace")
        if answer.status != HTTPStatus.OK:
            raise RuntimeError(f"GET {path}: {answer.status} {content[:500]}")
        return dict(json.loads(content))

    def apply(self, *manifests: Manifest) -> None:
        """Server-side apply of one or more objects."""
        documents = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(documents))

    def answers(self) -> bool:
        try:
            return self.kubectl("get", "--raw", "/readyz", "--request-timeout=5s") == "ok"
        except (subprocess.CalledProcessError, OSError):
            return False

    def give_store_access(self, namespace: str, name: str = "finetune-artifacts") -> None:
        """Create the store's Secret in a namespace (the namespace too)."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        self.apply(self.s3.secret(name, namespace))

    def node_ready(self, node: str) -> bool:
        conditions = self.get("node", node)["status"].get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def wait_ready(self, nodes: Iterable[str] | None = None, seconds: float = 120) -> None:
        for name in nodes or self.nodes:
            wait_for(f"node {name}", lambda name=name: self._exists_ready(name), seconds, lambda: "")  # type: ignore[misc]

    def _exists_ready(self, node: str) -> bool:
        try:
            return self.node_ready(node)
        except subprocess.CalledProcessError:
            return False

    def renewed(self, node: str) -> str:
        """When its kubelet last said that it lives. A node that died just now is still Ready; this does not move."""
        lease = self.get("lease", node, "-n", "kube-node-lease")
        return str(lease["spec"].get("renewTime", ""))

    def wait_alive(self, node: str, last_renewed: str, seconds: float = 120) -> None:
        """Until the node's kubelet has spoken since `last_renewed` and the node is Ready."""

        def alive() -> bool:
            return self.renewed(node) != last_renewed and self._exists_ready(node)

        wait_for(f"node {node}", alive, seconds, lambda: "")

    # Faults and hardware, for scenarios.

    def taint(self, node: str, key: str, value: str = "", effect: str = "NoSchedule") -> None:
        self.kubectl("taint", "node", node, f"{key}={value}:{effect}", "--overwrite")

    def untaint(self, node: str, key: str) -> None:
        """Remove every taint of that key; none is fine."""
        taints = self.get("node", node)["spec"].get("taints", [])
        if any(taint["key"] == key for taint in taints):
            self.kubectl("taint", "node", node, f"{key}-")

    def fake_gpus(self, node: str, count: int) -> None:
        """Let the node offer `nvidia.com/gpu: count`; 0 takes the offer back. The kubelet keeps what it finds."""
        value = str(count) if count else None
        patch = {"status": {kind: {"nvidia.com/gpu": value} for kind in ("capacity", "allocatable")}}
        self.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", json.dumps(patch))

    def container_id(self, namespace: str, pod: str, container: str | None = None) -> tuple[str, str]:
        """(node, container id without scheme) of a running container; the first one if none is named."""
        found = self.get("pod", pod, "-n", namespace)
        for status in found["status"].get("containerStatuses", []):
            if container in (None, status["name"]) and "running" in status["state"]:
                return found["spec"]["nodeName"], status["containerID"].partition("://")[2]
        raise LookupError(f"pod {namespace}/{pod} has no running container {container or ''}")

    def kill_container(
        self,
        namespace: str,
        pod: str,
        number: signal.Signals = signal.SIGKILL,
        container: str | None = None,
    ) -> None:
        """Signal the container's first process from outside, as the kernel would: no grace, no hooks."""
        os.kill(self.container_pid(namespace, pod, container), number)

    @abstractmethod
    def container_pid(self, namespace: str, pod: str, container: str | None = None) -> int:
        """The pid, on this host, of the container's first process."""

    @abstractmethod
    def isolate(self, node: str) -> None:
        """Cut the node off from the API server: its kubelet dies, its containers run on and still reach the store."""

    @abstractmethod
    def heal(self, node: str) -> None:
        """Bring an isolated or lost node back and wait until it is Ready."""

    @abstractmethod
    def lose(self, node: str) -> None:
        """The node dies with everything on it."""

    @abstractmethod
    def load(self, image: str) -> None:
        """Make an image of the OCI layout known to every node."""
