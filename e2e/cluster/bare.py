"""Bring-up and tear-down with plain binaries on a root Linux host. Every step does only what is missing."""

from __future__ import annotations

import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from e2e import tools
from e2e.cluster import addons, cgroups, host, layout, network, nodes
from e2e.cluster.cluster import Cluster, write_record
from e2e.cluster.containerd import Containerd, seeded
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.pki import Authority
from e2e.cluster.process import Daemon, wait_for
from e2e.images import cluster_images, stale
from e2e.tools.places import state_dir
from e2e.tools.progress import Progress

BINARIES = (
    *("etcd", "kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
    *("containerd", "containerd-shim-runc-v2", "ctr", "coredns", "versitygw", "helm", "traefik"),
)


def plane() -> ControlPlane:
    folder = state_dir() / "control-plane"
    return ControlPlane(folder, Authority(folder / "pki"), advertise=layout.HOST_IP, bind="0.0.0.0")


def control_plane_daemons() -> list[Daemon]:
    """In the order of their start."""
    p = plane()
    commands = {
        "etcd": p.etcd(),
        "kube-apiserver": p.apiserver(),
        "kube-controller-manager": p.controller_manager(),
        "kube-scheduler": p.scheduler(),
    }
    return [Daemon(name, layout.pids(), command) for name, command in commands.items()]


class BareCluster(Cluster):
    nodes = tuple(node.name for node in layout.NODES)

    def container_pid(self, namespace: str, pod: str, container: str | None = None) -> int:
        node, container_id = self.container_id(namespace, pod, container)
        return Containerd.of(layout.node(node)).init_pid(container_id)

    def isolate(self, node: str) -> None:
        nodes.kubelet(layout.node(node), plane()).stop(signal.SIGKILL)

    def heal(self, node: str) -> None:
        before = self.renewed(node)
        nodes.start(layout.node(node), plane())
        self.wait_alive(node, before)

    def lose(self, node: str) -> None:
        nodes.lose(layout.node(node), plane())

    def load(self, image: str) -> None:
        for node in layout.NODES:
            containerd = Containerd.of(node)
            if image not in containerd.images():
                containerd.load(image)


def start_control_plane(cluster: BareCluster, progress: Progress) -> None:
    daemons = control_plane_daemons()
    if all(daemon.pid() for daemon in daemons) and cluster.answers():
        return
    with progress.step("start etcd, kube-apiserver, kube-controller-manager, kube-scheduler"):
        shutil.copyfile(plane().kubeconfig("admin", plane().admin()), cluster.kubeconfig)
        cluster.kubeconfig.chmod(0o600)
        etcd, apiserver, *others = daemons
        etcd.start()
        apiserver.start()
        apiserver.wait_until(cluster.answers, 120)
        for daemon in others:
            daemon.start()


def load_images(cluster: BareCluster, images: list[str], progress: Progress) -> None:
    """Into the running nodes what they lack; into the seed, where a node is still to be made from it."""
    if any(not node.containerd_root.exists() for node in layout.NODES):
        _fill_seed(images, progress)
    for node in layout.NODES:
        nodes.prepare(node, plane())
        Containerd.of(node).start()
    lacking = [i for i in images if any(i not in Containerd.of(n).images() for n in layout.NODES)]
    for image in lacking:
        with progress.step(f"load {image} into the nodes"):
            cluster.load(image)


def _fill_seed(images: list[str], progress: Progress) -> None:
    with seeded() as seed:
        for name in stale.names(seed.ctr("images", "list"), images):
            seed.ctr("images", "remove", "--sync", name)
        for image in images:
            if image not in seed.images():
                with progress.step(f"load {image}") as step:
                    step.note(f"{seed.load(image) / 1e6:,.0f} MB")


def start_nodes(cluster: BareCluster, progress: Progress) -> None:
    others = [addons.store(), addons.kube_proxy(plane()), addons.coredns(plane())]
    kubelets = [nodes.kubelet(node, plane()) for node in layout.NODES]
    if all(daemon.pid() for daemon in [*others, *kubelets]) and all(map(cluster.node_ready, cluster.nodes)):
        return
    with progress.step("start kubelets, kube-proxy, CoreDNS and the S3 store; wait until both nodes are Ready"):
        for node in layout.NODES:
            nodes.start(node, plane())
        for daemon in others:
            daemon.start()
        store = others[0]
        store.wait_until(addons.store_answers, 30)
        cluster.wait_ready()


def ports_needed() -> dict[int, str]:
    """Loopback ports of the components that are not running."""
    p = plane()
    ports = {
        "etcd": (p.etcd_port, p.etcd_peer_port),
        "kube-apiserver": (p.port,),
        "kube-controller-manager": (10257,),
        "kube-scheduler": (10259,),
        "kube-proxy": (10249, 10256),
        **{f"kubelet-{node.name}": (node.healthz_port,) for node in layout.NODES},
    }
    idle = [name for name in ports if Daemon(name, layout.pids(), []).pid() is None]
    return {port: name for name in idle for port in ports[name]}


def make_tools_and_images(progress: Progress) -> cluster_images.Built:
    """Both at once: compiling keeps the cores busy, making images mostly waits for network and disk."""
    with ThreadPoolExecutor(1) as pool:
        images = pool.submit(cluster_images.ensure_all, progress)
        tools.ensure(*BINARIES, progress=progress)
        return images.result()


def up(progress: Progress) -> BareCluster:
    """From whatever is there to a cluster with both nodes Ready and the images loaded."""
    host.check(progress, ports_needed())
    images = make_tools_and_images(progress)
    network.up()
    state_dir().mkdir(parents=True, exist_ok=True)
    cluster = BareCluster()
    write_record(way="bare")
    addons.make_credentials()
    start_control_plane(cluster, progress)
    load_images(cluster, images.all(), progress)
    start_nodes(cluster, progress)
    write_record(images=dict(images.named))
    return cluster


def down(progress: Progress) -> None:
    """Stop and remove everything but the caches."""
    with progress.step("stop the nodes"):
        for node in layout.NODES:
            nodes.remove(node, plane())
    with progress.step("stop CoreDNS, kube-proxy, the S3 store and the control plane"):
        Containerd.seed().stop()
        for daemon in (addons.coredns(plane()), addons.kube_proxy(plane()), addons.store()):
            daemon.stop(patience=3)
        for daemon in reversed(control_plane_daemons()):
            daemon.stop(patience=3)
    with progress.step("remove addresses, rules, mounts and files"):
        addons.clean_kube_proxy()
        network.down()
        for folder in (state_dir(), Path("/run/finetune-operator")):
            nodes.unmount_below(folder)
            nodes.remove_tree(folder)


def leftovers() -> list[str]:
    """What a tear-down should have removed and did not, in words; for the test of `down`."""
    found = [f"network device {d}" for d in _devices() if d.startswith("finetune")]
    found += [f"network namespace {name}" for name in network.pod_namespaces()]
    text = Path("/proc/self/mountinfo").read_text()
    found += [f"mount {point}" for point in nodes.mounts_below(state_dir(), text)]
    found += [f"process {pid}" for node in layout.NODES for pid in cgroups.members(node.cgroup)]
    return found


def _devices() -> list[str]:
    return [path.name for path in Path("/sys/class/net").iterdir()]


def status() -> list[tuple[str, str]]:
    """(component, what it does) of every process of the cluster."""
    daemons = control_plane_daemons()
    daemons += [addons.store(), addons.kube_proxy(plane()), addons.coredns(plane())]
    for node in layout.NODES:
        daemons += [Containerd.of(node).daemon(), nodes.kubelet(node, plane())]
    return [(d.name, f"pid {d.pid()}" if d.pid() else f"not running, log: {d.log}") for d in daemons]


def wait_for_names(seconds: float = 30) -> None:
    """CoreDNS answers for the API server's own Service."""

    def answered() -> bool:
        query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
        for label in f"kubernetes.default.svc.{layout.DOMAIN}".split("."):
            query += bytes([len(label)]) + label.encode()
        query += b"\x00\x00\x01\x00\x01"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(1)
            try:
                s.sendto(query, (layout.HOST_IP, 53))
                return s.recv(512)[7] > 0  # one answer or more
            except OSError:
                return False

    wait_for("CoreDNS", answered, seconds, lambda: "")
