"""What makes two nodes a usable cluster: Service addresses, names, and an S3 store that pods can reach."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e import tools
from e2e.cluster import layout
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.pki import write_private
from e2e.cluster.process import Daemon
from e2e.tools.places import state_dir

COREFILE = """.:53 {{
  bind {ip}
  errors
  kubernetes {domain} in-addr.arpa {{
    kubeconfig {kubeconfig}
    pods insecure
  }}
  cache {{
    success 9984 5
    denial 9984 1
  }}
}}
"""
"""Refusals are remembered for 1 s only: a gang asks for names that are about to exist."""


@dataclass(frozen=True)
class S3:
    """The artifact store. `endpoint` is reachable from this host and from pods alike."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str = layout.BUCKET
    region: str = "us-east-1"

    def secret(self, name: str, namespace: str) -> dict[str, object]:
        """A Secret with the keys that obstore and every S3 client read from the environment."""
        data = {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": self.region,
        }
        metadata = {"name": name, "namespace": namespace}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


def kube_proxy(plane: ControlPlane) -> Daemon:
    config = plane.folder / "kube-proxy.yaml"
    command = [str(tools.path("kube-proxy")), f"--config={config}"]
    env = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    daemon = Daemon("kube-proxy", layout.pids(), command, env)
    if daemon.pid() is None:
        document = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": str(plane.component_kubeconfig("kube-proxy"))},
            "hostnameOverride": layout.NODES[0].name,
            "clusterCIDR": layout.POD_NET,
            "metricsBindAddress": "127.0.0.1:10249",
            "healthzBindAddress": "127.0.0.1:10256",
            "conntrack": {"maxPerCore": 0},
            "iptables": {"minSyncPeriod": "0s"},
            "oomScoreAdj": 0,
        }
        config.write_text(yaml.safe_dump(document))
    return daemon


def clean_kube_proxy() -> None:
    """Its own clean-up of the rules it made."""
    binary = tools.path("kube-proxy")
    if binary.exists():
        subprocess.run([binary, "--cleanup"], capture_output=True)


def coredns(plane: ControlPlane) -> Daemon:
    corefile = plane.folder / "Corefile"
    daemon = Daemon("coredns", layout.pids(), [str(tools.path("coredns")), "-conf", str(corefile)])
    if daemon.pid() is None:
        kubeconfig = plane.kubeconfig("admin", plane.admin())
        corefile.write_text(COREFILE.format(ip=layout.HOST_IP, domain=layout.DOMAIN, kubeconfig=kubeconfig))
    return daemon


def s3() -> S3:
    """The store's address and credentials, generated once per cluster."""
    return S3(**json.loads(_credentials_file().read_text()))


def _credentials_file() -> Path:
    return state_dir() / "s3.json"


def make_credentials(address: str = layout.HOST_IP) -> None:
    """The store's credentials and its bucket, unless they exist."""
    (state_dir() / "store" / layout.BUCKET).mkdir(parents=True, exist_ok=True)
    if not _credentials_file().exists():
        keys = {"access_key": "finetune", "secret_key": secrets.token_urlsafe(24)}
        record = {"endpoint": f"http://{address}:{layout.S3_PORT}", **keys}
        write_private(_credentials_file(), json.dumps(record).encode())


def store(address: str = layout.HOST_IP) -> Daemon:
    """The S3 server on an address that pods reach."""
    make_credentials(address)
    made = s3()
    env = os.environ | {"ROOT_ACCESS_KEY": made.access_key, "ROOT_SECRET_KEY": made.secret_key}
    flags = ["--port", f"{address}:{layout.S3_PORT}", "--quiet", "posix", str(state_dir() / "store")]
    return Daemon("versitygw", layout.pids(), [str(tools.path("versitygw")), *flags], env)


def store_answers() -> bool:
    """Any HTTP answer will do: without a signature it is a refusal."""
    try:
        urllib.request.urlopen(s3().endpoint, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
