"""What the bare way needs of the machine, checked before anything is touched, each finding in words.

Debian packages that are missing are installed where apt-get is there; everything else is said, not guessed.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from e2e.cluster.layout import CLUSTER_NET, seed_root
from e2e.tools.places import cache_dir, state_dir
from e2e.tools.progress import Progress

GIB = 1 << 30
MEMORY_NEEDED = 10 * GIB
DISK_COLD, DISK_BUILT, DISK_WARM = 40 * GIB, 25 * GIB, 10 * GIB
"""From nothing; with a former version of the images in the cache; with nodes made of them before."""
CNI_BIN = Path("/usr/lib/cni")
PACKAGES = {
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
    "skopeo": "skopeo",
    "ip": "iproute2",
    "mount": "mount",
    str(CNI_BIN / "bridge"): "containernetworking-plugins",
}
"""What must be there → the Debian package that brings it."""


class Unfit(SystemExit):
    """The machine cannot carry the cluster; the message lists what is missing and how to get it."""


def missing_packages() -> list[str]:
    """Debian packages to install. /usr/sbin may be absent from a user's PATH, the programs are there all the same."""
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [package for program, package in PACKAGES.items() if not shutil.which(program, path=search)]


def install_packages(progress: Progress) -> None:
    packages = missing_packages()
    if not packages:
        return
    if not shutil.which("apt-get"):
        raise Unfit(f"Missing programs; install these packages (Debian's names): {' '.join(packages)}")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with progress.step(f"apt-get install {' '.join(packages)}"):
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            run = subprocess.run(["apt-get", *command], env=env, capture_output=True, text=True)
            if run.returncode:
                words = (run.stdout + run.stderr)[-1500:]
                raise Unfit(f"apt-get {command[0]} failed; install {' '.join(packages)} yourself:\n{words}")


def memory_available(meminfo: str) -> int:
    """Bytes, from the text of /proc/meminfo."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def disk_free(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def kernel_findings(filesystems: str, controllers: str, modules_tool: bool) -> list[str]:
    """What the kernel lacks, from the texts of /proc/filesystems and /proc/cgroups."""
    found = []
    if "\toverlay\n" not in filesystems:
        hint = "modprobe overlay" if modules_tool else "a kernel with CONFIG_OVERLAY_FS"
        found.append(f"The kernel has no overlay file system: {hint}")
    for controller in ("cpu", "cpuset", "memory", "pids"):
        line = re.search(rf"^{controller}\s+\d+\s+\d+\s+(\d)", controllers, re.MULTILINE)
        if not line or line.group(1) == "0":
            found.append(f"The kernel's cgroup controller {controller!r} is off: boot with it enabled")
    return found


def load_modules() -> None:
    """Load what may be a module; where it is built in, or no modprobe is there, the checks have the last word."""
    if shutil.which("modprobe"):
        for module in ("overlay", "br_netfilter", "veth", "bridge"):
            subprocess.run(["modprobe", "--quiet", module], capture_output=True)


def disk_needed() -> int:
    if seed_root().exists():
        return DISK_WARM
    return DISK_BUILT if (cache_dir() / "images" / "layout" / "index.json").exists() else DISK_COLD


def findings(needed: int) -> list[str]:
    """Everything that speaks against a start with so much free disk needed, in words; empty if nothing does."""
    if os.geteuid() != 0:
        words = "Plain binaries need root: run this as root, or start a Docker engine, then the kind way is taken"
        return [words]
    found = kernel_findings(
        Path("/proc/filesystems").read_text(), Path("/proc/cgroups").read_text(), bool(shutil.which("modprobe"))
    )
    if not Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        found.append("The kernel has no br_netfilter: Services between pods of one node would not answer")
    memory = memory_available(Path("/proc/meminfo").read_text())
    if memory < MEMORY_NEEDED:
        found.append(f"{memory / GIB:.1f} GiB of memory available, {MEMORY_NEEDED / GIB:.0f} GiB needed")
    for what, path in {"cache": cache_dir(), "state": state_dir()}.items():
        if (free := disk_free(path)) < needed:
            found.append(
                f"{free / GIB:.0f} GiB free at {path}, {needed / GIB:.0f} GiB needed: free some, "
                f"or point FINETUNE_{what.upper()} to a larger disk"
            )
    return found


def foreign_routes(routes: str) -> list[str]:
    """Devices of others that use our address range (a VPN, say), from the text of `ip -4 route show table all`."""
    ours, found = ipaddress.ip_network(CLUSTER_NET), []
    for line in routes.splitlines():
        network = re.match(r"(?:\w+ )?(\d+\.\d+\.\d+\.\d+(?:/\d+)?) ", line)
        device = re.search(r" dev (\S+)", line)
        if not network or not device or device.group(1).startswith("finetune"):
            continue
        if ipaddress.ip_network(network.group(1), strict=False).overlaps(ours):
            words = f"{device.group(1)} uses {network.group(1)}, the cluster needs {CLUSTER_NET}"
            found.append(f"{words}: take {device.group(1)} down for the time")
    return found


def taken_ports(ports: Mapping[int, str]) -> list[str]:
    """Loopback ports (port → which component needs it) that another program listens on."""
    found = []
    for port, component in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                found.append(f"Port {port} is in use, {component} needs it: stop the program that listens there")
    return found


def check(progress: Progress, ports: Mapping[int, str]) -> None:
    """Raise Unfit with every finding, or return. `ports` must be free: those of components that do not run yet."""
    load_modules()
    with progress.step("check root, kernel, memory, disk and addresses"):
        found = findings(disk_needed()) + taken_ports(ports)
        if shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin"):
            command = ["ip", "-4", "route", "show", "table", "all"]
            found += foreign_routes(subprocess.run(command, capture_output=True, text=True).stdout)
    if found:
        raise Unfit("This machine cannot carry the cluster:\n" + "\n".join(f"  - {line}" for line in found))
    install_packages(progress)
