"""Addresses, names and folders of the bare cluster: one place, so that tear-down knows what bring-up made.

All addresses are from the shared address space of RFC 6598, which neither a company network nor a cloud VPC uses for
hosts; nothing in the cluster may talk to an address outside it, and network.py refuses to forward such traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from e2e.tools.places import cache_dir, state_dir

CLUSTER_NET = "100.64.0.0/14"
POD_NET = "100.64.0.0/16"
SERVICE_NET = "100.65.0.0/16"
SERVICE_IP = "100.65.0.1"
HOST_NET = "100.66.0.0/24"
HOST_IP = "100.66.0.1"
HOST_BRIDGE = "finetune0"
API_PORT = 6443
S3_PORT = 7070
BUCKET = "artifacts"
DOMAIN = "cluster.local"
CHAIN = "FINETUNE-FORWARD"


@dataclass(frozen=True)
class Node:
    """One of the real nodes on this host; everything that must differ between them follows from `index`."""

    index: int

    @property
    def name(self) -> str:
        return f"node-{self.index}"

    @property
    def ip(self) -> str:
        return f"100.66.0.{self.index}"

    @property
    def bridge(self) -> str:
        return f"finetune-cni{self.index}"

    @property
    def pod_net(self) -> str:
        return f"100.64.{self.index - 1}.0/24"

    @property
    def kubelet_port(self) -> int:
        return 10250 + 10000 * (self.index - 1)

    @property
    def healthz_port(self) -> int:
        return 10248 + 10000 * (self.index - 1)

    @property
    def cgroup(self) -> str:
        """Own root: two kubelets that share one delete each other's pods."""
        return f"/finetune-{self.name}"

    @property
    def folder(self) -> Path:
        return state_dir() / self.name

    @property
    def run(self) -> Path:
        """Sockets and containerd's volatile state (short: socket paths are limited to 107 bytes)."""
        return Path("/run/finetune-operator") / self.name

    @property
    def socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def containerd_root(self) -> Path:
        return self.folder / "containerd"


NODES = (Node(1), Node(2))


def node(name: str) -> Node:
    for candidate in NODES:
        if candidate.name == name:
            return candidate
    raise ValueError(f"unknown node {name!r}; the cluster has {', '.join(n.name for n in NODES)}")


def pids() -> Path:
    """Pid files and logs of every component."""
    return state_dir() / "run"


def seed_root() -> Path:
    """containerd's root with the images loaded and nothing ever run: both nodes start as hard-linked copies."""
    return cache_dir() / "containerd-seed"
