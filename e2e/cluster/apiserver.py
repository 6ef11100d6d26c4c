"""A throw-away API server: real etcd and kube-apiserver on free loopback ports, up in seconds, gone on exit.

For tests of CRDs, CEL, server-side apply and RBAC, and for the benchmarks, which add the controller-manager, the
scheduler and kwok's fake nodes. Needs no root; nothing of it outlives the process that started it.

    with ApiServer() as api:
        api.kubectl("apply", "--server-side", "-f", "crds/")
"""

from __future__ import annotations

import json
import shutil
import signal
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from e2e import tools
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.pki import Authority
from e2e.cluster.process import Daemon, output_of
from e2e.ports import free_ports


class ApiServer:
    """Use as a context manager, or `start()` and `stop()`.

    `controllers`, `scheduler`, `kwok` add those processes; `kwok_config` is YAML for kwok's --config (its default
    stages make nodes Ready, pods Running, and pods of Jobs Succeeded at once).
    """

    def __init__(
        self,
        *,
        controllers: bool = False,
        scheduler: bool = False,
        kwok: bool = False,
        kwok_config: str | None = None,
        apiserver_flags: Sequence[str] = (),
        controller_flags: Sequence[str] = (),
    ) -> None:
        self._wanted = {"controllers": controllers, "scheduler": scheduler, "kwok": kwok}
        self._kwok_config = kwok_config
        self._apiserver_flags, self._controller_flags = list(apiserver_flags), list(controller_flags)
        self._daemons: list[Daemon] = []
        self._folder: Path | None = None
        self._plane: ControlPlane | None = None

    # What callers use once it is up.

    @property
    def plane(self) -> ControlPlane:
        if self._plane is None:
            raise RuntimeError("the API server has not been started: use `with ApiServer() as api:`")
        return self._plane

    @property
    def url(self) -> str:
        return self.plane.url

    @property
    def folder(self) -> Path:
        """Data, certificates and logs; removed on stop."""
        return self.plane.folder

    @property
    def kubeconfig(self) -> Path:
        """Of a cluster administrator (group system:masters)."""
        return self.plane.kubeconfig("admin", self.plane.admin())

    def pid(self, name: str) -> int | None:
        """Of etcd, kube-apiserver, kube-controller-manager, kube-scheduler or kwok."""
        return next((d.pid() for d in self._daemons if d.name == name), None)

    def ensure_namespace(self, name: str) -> None:
        """Make it unless it is there. No controller removes one here, so nobody should delete it: it would stay
        terminating."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(body))

    def kubectl(self, *args: str, input: str | None = None) -> str:
        """Standard output; raises CommandFailed (a subprocess.CalledProcessError) with kubectl's words."""
        return output_of([tools.path("kubectl"), f"--kubeconfig={self.kubeconfig}", *args], input)

    def fake_nodes(self, count: int, gpus: int = 8, prefix: str = "fake") -> None:
        """Nodes that kwok keeps Ready (needs kwok=True)."""
        capacity = {"cpu": "64", "memory": "512Gi", "pods": "250", "nvidia.com/gpu": str(gpus)}
        nodes = [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": f"{prefix}-{n}",
                    "labels": {"kubernetes.io/hostname": f"{prefix}-{n}", "type": "kwok"},
                    "annotations": {"kwok.x-k8s.io/node": "fake"},
                },
                "status": {"capacity": capacity, "allocatable": capacity},
            }
            for n in range(count)
        ]
        self.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))

    # Life cycle.

    def __enter__(self) -> ApiServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> ApiServer:
        names = ["etcd", "kube-apiserver", "kubectl"]
        names += ["kube-controller-manager"] * self._wanted["controllers"]
        names += ["kube-scheduler"] * self._wanted["scheduler"] + ["kwok"] * self._wanted["kwok"]
        tools.ensure(*names)
        self._folder = Path(tempfile.mkdtemp(prefix="finetune-apiserver-"))
        ports = free_ports(6)
        self._plane = ControlPlane(
            folder=self._folder,
            authority=Authority(self._folder / "pki"),
            port=ports[0],
            etcd_port=ports[1],
            etcd_peer_port=ports[2],
            service_cidr="10.96.0.0/12",
            service_ip="10.96.0.1",
        )
        try:
            self._start(ports)
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self, ports: list[int]) -> None:
        plane = self.plane
        self._run("etcd", plane.etcd())
        # A loopback address may not be published as an endpoint of the Service `kubernetes`.
        flags = [*plane.apiserver(), "--endpoint-reconciler-type=none", *self._apiserver_flags]
        apiserver = self._run("kube-apiserver", flags)
        apiserver.wait_until(self._ready, 120)
        if self._wanted["controllers"]:
            command = [*plane.controller_manager(ports[3]), *self._controller_flags]
            self._run("kube-controller-manager", command)
        if self._wanted["scheduler"]:
            self._run("kube-scheduler", plane.scheduler(ports[4]))
        if self._wanted["kwok"]:
            self._run("kwok", self._kwok(ports[5]))

    def _kwok(self, port: int) -> list[str]:
        config = self.folder / "kwok.yaml"
        config.write_text(self._kwok_config or "")
        return [
            str(tools.path("kwok")),
            f"--kubeconfig={self.kubeconfig}",
            f"--config={config}",
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--node-lease-duration-seconds=40",
            "--cidr=10.128.0.0/9",
            f"--server-address=127.0.0.1:{port}",
        ]

    def _run(self, name: str, command: list[str]) -> Daemon:
        daemon = Daemon(name, self.folder, command, with_parent=True)
        self._daemons.append(daemon)
        daemon.start()
        return daemon

    def _ready(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.plane.authority.ca.cert))
        client = self.plane.admin()
        context.load_cert_chain(client.cert, client.key)
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", context=context, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """Nothing in it is worth saving, so nothing is asked to shut down in order."""
        for daemon in reversed(self._daemons):
            daemon.stop(signal.SIGKILL)
        self._daemons.clear()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._plane = None
