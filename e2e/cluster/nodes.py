"""The two real nodes of the bare way: containerd and kubelet each, on one host, kept apart in everything they touch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import yaml

from e2e import tools
from e2e.cluster import cgroups, layout
from e2e.cluster.containerd import Containerd, clone_seed
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.process import Daemon


def kubelet_config(node: layout.Node, plane: ControlPlane) -> dict[str, object]:
    serving = plane.authority.issue(f"kubelet-{node.name}-serving", f"kubelet-{node.name}", names=[node.ip])
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.ip,
        "port": node.kubelet_port,
        "healthzPort": node.healthz_port,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plane.authority.ca.cert)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.cert),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{node.socket}",
        "clusterDNS": [layout.HOST_IP],
        "clusterDomain": layout.DOMAIN,
        "resolvConf": "/dev/null",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        # On a shared disk the kubelet would otherwise delete images that nothing can pull again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        # A lost node is noticed after 25 s instead of a minute (see the controller-manager's grace period).
        "nodeLeaseDurationSeconds": 20,
        "nodeStatusUpdateFrequency": "5s",
        "podLogsDir": str(node.folder / "pod-logs"),
        "volumePluginDir": str(node.folder / "volume-plugins"),
        "maxPods": 200,
    }


def cni_config(node: layout.Node) -> dict[str, object]:
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": node.pod_net}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(node.folder / "ipam"),
    }
    bridge = {"type": "bridge", "bridge": node.bridge, "isGateway": True, "hairpinMode": True, "ipam": ipam}
    port_map = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": f"finetune-{node.name}", "plugins": [bridge, port_map]}


def kubelet(node: layout.Node, plane: ControlPlane) -> Daemon:
    client = plane.authority.issue(f"kubelet-{node.name}", f"system:node:{node.name}", "system:nodes")
    kubeconfig = plane.kubeconfig(f"kubelet-{node.name}", client)
    command = [
        str(tools.path("kubelet")),
        f"--config={node.folder / 'kubelet.yaml'}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={node.folder / 'kubelet'}",
        f"--cert-dir={node.folder / 'kubelet-pki'}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.ip}",
        "--v=1",
    ]
    env = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    return Daemon(f"kubelet-{node.name}", layout.pids(), command, env)


def prepare(node: layout.Node, plane: ControlPlane) -> None:
    """Configuration and folders, written only while the kubelet is down: it exits when its file changes."""
    cgroups.create(node.cgroup)
    if not node.containerd_root.exists():
        clone_seed(node.containerd_root)
    cni = node.folder / "cni"
    cni.mkdir(parents=True, exist_ok=True)
    (cni / "10-finetune.conflist").write_text(json.dumps(cni_config(node), indent=1))
    if kubelet(node, plane).pid() is None:
        for folder in ("kubelet", "kubelet-pki", "pod-logs", "volume-plugins"):
            (node.folder / folder).mkdir(parents=True, exist_ok=True)
        (node.folder / "kubelet.yaml").write_text(yaml.safe_dump(kubelet_config(node, plane)))


def start(node: layout.Node, plane: ControlPlane) -> None:
    prepare(node, plane)
    Containerd.of(node).start()
    kubelet(node, plane).start()


def lose(node: layout.Node, plane: ControlPlane) -> None:
    """End the node for real: kubelet, containerd, shims and every container on it."""
    kubelet(node, plane).stop(signal.SIGKILL)
    Containerd.of(node).daemon().stop(signal.SIGKILL)
    Containerd.of(node).kill_shims()
    cgroups.kill(node.cgroup)


def mounts_below(folder: Path, mountinfo: str) -> list[str]:
    """Mount points at or below a folder, innermost first, from the text of /proc/self/mountinfo."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in mountinfo.splitlines()]
    ours = [point for point in points if point == str(folder) or point.startswith(f"{folder}/")]
    return sorted(ours, key=len, reverse=True)


def unmount_below(folder: Path) -> None:
    for point in mounts_below(folder, Path("/proc/self/mountinfo").read_text()):
        subprocess.run(["umount", "--lazy", point], capture_output=True)


def remove_tree(folder: Path) -> None:
    """rm is an order of magnitude faster than Python on the 100,000 files of a container root."""
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], capture_output=True)


def remove(node: layout.Node, plane: ControlPlane) -> None:
    """Everything the node left: processes, mounts, control groups, files."""
    lose(node, plane)
    for folder in (node.folder, node.run):
        unmount_below(folder)
        remove_tree(folder)
    cgroups.remove(node.cgroup)
    logs = Path("/var/log/containers")
    for link in logs.iterdir() if logs.exists() else []:
        if link.is_symlink() and str(link.readlink()).startswith(str(node.folder)):
            link.unlink()
