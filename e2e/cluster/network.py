"""The host's side of the cluster network: one bridge for node, API server, DNS and store, and rules around it.

A bridge, because dummy devices may be missing from a kernel. Traffic from a pod to any address outside the cluster is
rejected: a test must never reach a foreign host, and a wrong address should fail at once instead of timing out.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

from e2e.cluster import layout
from e2e.tools.places import state_dir

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
BRIDGE_CALLS = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=check, text=True, capture_output=True)


def _before() -> Path:
    return state_dir() / "sysctl-before.json"


def up() -> None:
    """Make what is missing; doing it again changes nothing."""
    if run("ip", "link", "show", layout.HOST_BRIDGE, check=False).returncode:
        run("ip", "link", "add", layout.HOST_BRIDGE, "type", "bridge")
    run("ip", "link", "set", layout.HOST_BRIDGE, "up")
    for node in layout.NODES:
        run("ip", "address", "replace", f"{node.ip}/24", "dev", layout.HOST_BRIDGE)
    # Without this route a request to a ClusterIP leaves the host whenever kube-proxy is not running.
    run("ip", "route", "replace", layout.SERVICE_NET, "dev", layout.HOST_BRIDGE)
    _switch_on()
    _rules()


def _switch_on() -> None:
    """Forwarding on; what it was before is kept for `down`."""
    switches = {str(path): path.read_text().strip() for path in (FORWARD, BRIDGE_CALLS)}
    if not _before().exists():
        _before().parent.mkdir(parents=True, exist_ok=True)
        _before().write_text(json.dumps(switches))
    for path in switches:
        Path(path).write_text("1\n")


def _rules() -> None:
    """Own chain, filled anew: accept inside the cluster (Docker's policy is DROP), reject what would leave it."""
    run("iptables", "-w", "-N", layout.CHAIN, check=False)
    run("iptables", "-w", "-F", layout.CHAIN)
    inside = ("-s", layout.CLUSTER_NET, "-d", layout.CLUSTER_NET)
    run("iptables", "-w", "-A", layout.CHAIN, *inside, "-j", "ACCEPT")
    run("iptables", "-w", "-A", layout.CHAIN, "-s", layout.CLUSTER_NET, "-j", "REJECT")
    if run("iptables", "-w", "-C", "FORWARD", "-j", layout.CHAIN, check=False).returncode:
        run("iptables", "-w", "-A", "FORWARD", "-j", layout.CHAIN)


def pod_namespaces() -> list[str]:
    """Network namespaces that CNI made for pods of ours: those with an address in the pod range."""
    folder = Path("/run/netns")
    if not folder.exists():
        return []
    ours = []
    for path in folder.glob("cni-*"):
        addresses = run("ip", "-n", path.name, "-4", "-o", "address", check=False).stdout
        if " 100.64." in addresses:
            ours.append(path.name)
    return ours


def remove_pod_namespaces() -> None:
    for name in pod_namespaces():
        run("ip", "netns", "delete", name, check=False)


def down() -> None:
    """Remove devices, routes (they go with the device) and rules; put the switches back."""
    remove_pod_namespaces()
    for device in (*(node.bridge for node in layout.NODES), layout.HOST_BRIDGE):
        run("ip", "link", "delete", device, check=False)
    while not run("iptables", "-w", "-D", "FORWARD", "-j", layout.CHAIN, check=False).returncode:
        pass
    run("iptables", "-w", "-F", layout.CHAIN, check=False)
    run("iptables", "-w", "-X", layout.CHAIN, check=False)
    remove_leftover_chains()
    if _before().exists():
        for path, value in json.loads(_before().read_text()).items():
            Path(path).write_text(value + "\n")
        _before().unlink()


def remove_leftover_chains() -> None:
    """kubelet's and kube-proxy's chains (KUBE-*) that their own clean-up left, and CNI's."""
    for table in ("filter", "nat", "mangle"):
        rules = run("iptables-save", "-t", table, check=False).stdout.splitlines()
        chains = [line.split()[0][1:] for line in rules if line.startswith((":KUBE-", ":CNI-"))]
        for rule in rules:
            if rule.startswith("-A ") and any(f"-j {chain}" in rule for chain in chains):
                run("iptables", "-w", "-t", table, "-D", *shlex.split(rule.removeprefix("-A ")), check=False)
        for action in ("-F", "-X"):
            for chain in chains:
                run("iptables", "-w", "-t", table, action, chain, check=False)
