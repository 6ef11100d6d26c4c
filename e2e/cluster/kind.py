"""Bring-up with kind, where a Docker engine answers. Images, store, chart and checks are those of the bare way.

The store runs on this host, on the gateway address of kind's Docker network, which is how pods reach it; that needs
a Docker engine on the same Linux host (not a virtual machine as with Docker Desktop).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from e2e import tools
from e2e.cluster import addons, layout
from e2e.cluster.cluster import Cluster, write_record
from e2e.cluster.process import Daemon, NotUp
from e2e.images.product import FAULTY, PRODUCTS, source_digest
from e2e.tools.places import REPO, state_dir
from e2e.tools.progress import Progress

NAME = "finetune"
BINARIES = ("kubectl", "helm", "versitygw", "kind")


def docker(*args: str) -> str:
    run = subprocess.run(["docker", *args], capture_output=True, text=True)
    if run.returncode:
        raise NotUp(f"docker {args[0]} failed: {run.stderr.strip()[-1500:]}")
    return run.stdout.strip()


def engine_answers() -> bool:
    """A docker command alone is not an engine."""
    if not shutil.which("docker"):
        return False
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


def gateway() -> str:
    """The host's address in kind's network, the IPv4 one of two."""
    networks = json.loads(docker("network", "inspect", "kind"))
    for config in networks[0]["IPAM"]["Config"]:
        if "." in config.get("Gateway", ""):
            return str(config["Gateway"])
    raise NotUp("Docker's network `kind` has no IPv4 gateway")


def config() -> dict[str, object]:
    """A control plane and two workers that are named as the bare way's nodes are counted."""
    grace = {"name": "node-monitor-grace-period", "value": "25s"}
    patch = {
        "kind": "ClusterConfiguration",
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "controllerManager": {"extraArgs": [grace]},
    }
    workers = [{"role": "worker", "labels": {"finetune.test/node": f"node-{n}"}} for n in (1, 2)]
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": "control-plane", "kubeadmConfigPatches": [yaml.safe_dump(patch)]}, *workers],
    }


class KindCluster(Cluster):
    nodes = (f"{NAME}-worker", f"{NAME}-worker2")
    gateway_type = "NodePort"

    def gateway_address(self, service: dict[str, Any]) -> str:
        """This host routes to the nodes, not to ClusterIPs."""
        addresses = self.get("node", self.nodes[0])["status"]["addresses"]
        node = next(a["address"] for a in addresses if a["type"] == "InternalIP" and "." in a["address"])
        return f"{node}:{service['ports'][0]['nodePort']}"

    def container_pid(self, namespace: str, pod: str, container: str | None = None) -> int:
        node, container_id = self.container_id(namespace, pod, container)
        inner = docker(
            "exec", node, "crictl", "inspect", "-o", "go-template", "--template", "{{.info.pid}}", container_id
        )
        spaces = docker("exec", node, "readlink", f"/proc/{inner}/ns/pid")
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _namespace_of(entry) == spaces and _is_first(entry):
                return int(entry.name)
        raise LookupError(f"no process of {namespace}/{pod} is visible from this host")

    def isolate(self, node: str) -> None:
        docker("exec", node, "systemctl", "kill", "--signal=SIGKILL", "kubelet")
        docker("exec", node, "systemctl", "stop", "kubelet")

    def heal(self, node: str) -> None:
        before = self.renewed(node)
        docker("start", node)
        docker("exec", node, "systemctl", "start", "kubelet")
        self.wait_alive(node, before)

    def lose(self, node: str) -> None:
        docker("kill", node)

    def load(self, image: str) -> None:
        self.run(tools.path("kind"), "load", "docker-image", "--name", NAME, image)


def _namespace_of(process: Path) -> str:
    try:
        return str((process / "ns" / "pid").readlink())
    except OSError:
        return ""


def _is_first(process: Path) -> bool:
    """Pid 1 of its innermost pid namespace."""
    status = (process / "status").read_text()
    return any(line.startswith("NSpid:") and line.split()[-1] == "1" for line in status.splitlines())


def traefik_image() -> str:
    """The public image of the pinned version: where an engine is, its registry is."""
    return f"docker.io/library/traefik:{tools.tool_of('traefik').version}"


def store() -> Daemon:
    """The bare way's store, on an address that kind's pods reach."""
    return addons.store(gateway())


def up(progress: Progress) -> KindCluster:
    tools.ensure(*BINARIES, progress=progress)
    state_dir().mkdir(parents=True, exist_ok=True)
    cluster = KindCluster()
    if (
        NAME
        not in subprocess.run([tools.path("kind"), "get", "clusters"], capture_output=True, text=True).stdout.split()
    ):
        with progress.step("create the kind cluster"):
            file = state_dir() / "kind.yaml"
            file.write_text(yaml.safe_dump(config()))
            command = [tools.path("kind"), "create", "cluster", "--name", NAME, "--config", file, "--wait", "120s"]
            subprocess.run([str(part) for part in command], check=True)
    kubeconfig = subprocess.run(
        [str(tools.path("kind")), "get", "kubeconfig", "--name", NAME], check=True, capture_output=True, text=True
    ).stdout
    cluster.kubeconfig.write_text(kubeconfig)
    cluster.kubeconfig.chmod(0o600)
    write_record(way="kind")
    daemon = store()
    daemon.start()
    daemon.wait_until(addons.store_answers, 30)
    images: dict[str, str] = {}
    for product in (*PRODUCTS, FAULTY):
        base = images["vllm"] if product is FAULTY else ""
        image = f"{product.repository}:{source_digest(product, base)}"
        with progress.step(f"build and load {image}"):
            arguments = ["--build-arg", f"BASE_IMAGE={base}"] if base else []
            context = str(REPO / product.context)
            docker("build", "--tag", image, *arguments, "--file", str(REPO / product.dockerfile), context)
            cluster.load(image)
        images[product.key] = image
    with progress.step(f"load {traefik_image()}"):
        docker("pull", traefik_image())
        cluster.load(traefik_image())
    images["traefik"] = traefik_image()
    write_record(images=images)
    cluster.wait_ready()
    return cluster


def down(progress: Progress) -> None:
    with progress.step("delete the kind cluster"):
        if engine_answers() and tools.path("kind").exists():
            subprocess.run([str(tools.path("kind")), "delete", "cluster", "--name", NAME], capture_output=True)
    Daemon("versitygw", layout.pids(), []).stop(patience=3)
    shutil.rmtree(state_dir(), ignore_errors=True)


def status() -> list[tuple[str, str]]:
    command = [
        "docker",
        "ps",
        "--all",
        "--filter",
        f"label=io.x-k8s.kind.cluster={NAME}",
        "--format",
        "{{.Names}}\t{{.Status}}",
    ]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return [(name, state) for name, _, state in (line.partition("\t") for line in lines)]
