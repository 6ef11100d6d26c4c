"""Command lines of etcd, API server, controller-manager and scheduler: the throw-away one and the cluster's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from e2e import tools
from e2e.cluster.pki import Authority, Pair

BINARIES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")


@dataclass(frozen=True)
class ControlPlane:
    """Addresses and files from which the command lines follow."""

    folder: Path
    authority: Authority
    advertise: str = "127.0.0.1"
    bind: str = "127.0.0.1"
    port: int = 6443
    etcd_port: int = 2379
    etcd_peer_port: int = 2380
    service_cidr: str = "100.65.0.0/16"
    service_ip: str = "100.65.0.1"

    @property
    def url(self) -> str:
        return f"https://{self.advertise}:{self.port}"

    def admin(self) -> Pair:
        return self.authority.issue("admin", "finetune-admin", "system:masters")

    def kubeconfig(self, file: str, client: Pair) -> Path:
        return self.authority.kubeconfig(self.folder / f"{file}.kubeconfig", self.url, client)

    def component_kubeconfig(self, component: str) -> Path:
        return self.kubeconfig(component, self.authority.issue(component, f"system:{component}"))

    def etcd(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.etcd_peer_port}"
        return [
            str(tools.path("etcd")),
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
        ]

    def apiserver(self) -> list[str]:
        names = [
            *("127.0.0.1", "localhost", self.advertise, self.service_ip),
            *("kubernetes", "kubernetes.default", "kubernetes.default.svc"),
        ]
        serving = self.authority.issue("apiserver", "kube-apiserver", names=list(dict.fromkeys(names)))
        tokens, admin = self.authority.service_account_key(), self.admin()
        return [
            str(tools.path("kube-apiserver")),
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            f"--advertise-address={self.advertise}",
            f"--bind-address={self.bind}",
            f"--secure-port={self.port}",
            f"--service-cluster-ip-range={self.service_cidr}",
            f"--client-ca-file={self.authority.ca.cert}",
            f"--tls-cert-file={serving.cert}",
            f"--tls-private-key-file={serving.key}",
            f"--kubelet-client-certificate={admin.cert}",
            f"--kubelet-client-key={admin.key}",
            f"--kubelet-certificate-authority={self.authority.ca.cert}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-key-file={tokens.cert}",
            f"--service-account-signing-key-file={tokens.key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
        ]

    def controller_manager(self, port: int = 10257) -> list[str]:
        kubeconfig = self.component_kubeconfig("kube-controller-manager")
        return [
            str(tools.path("kube-controller-manager")),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--service-account-private-key-file={self.authority.service_account_key().key}",
            f"--root-ca-file={self.authority.ca.cert}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            # The default limit of 20 requests a second would make bursts of Jobs wait for the client, not for us.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            # Kubelets renew their leases every 5 s (nodes.py); five missed ones mean that the node is lost.
            "--node-monitor-grace-period=25s",
            "--node-monitor-period=2s",
        ]

    def scheduler(self, port: int = 10259) -> list[str]:
        kubeconfig = self.component_kubeconfig("kube-scheduler")
        return [
            str(tools.path("kube-scheduler")),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ]
