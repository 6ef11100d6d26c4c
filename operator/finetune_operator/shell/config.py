"""The operator's settings: flags with environment variables behind them, checked in words before anything starts."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune_operator.core.types import Config

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
_STORE = re.compile(r"^(s3|pvc|file)://\S+$")
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_GATEWAY = re.compile(rf"^{_LABEL}/{_LABEL}(\.{_LABEL})*$")
_DOMAIN = re.compile(rf"^(?=.{{1,190}}$){_LABEL}(\.{_LABEL})*$")
_PART = r"([-a-z0-9]|\{namespace\})+"
_HOSTNAMES = re.compile(rf"^(\*|(\*\.)?{_PART}(\.{_PART})*)$")
_PULL = ("Always", "IfNotPresent", "Never")
_LEVELS = ("debug", "info", "warning", "error")

_EXAMPLES = """\
examples:
  on a workstation, against the current kubeconfig:
    finetune-operator --namespace finetune-system --trainer-image registry.example/finetune-trainer:0.1.0 \\
      --small-image registry.example/finetune-operator:0.1.0 --artifacts-uri s3://models/runs --artifacts-secret store
  in a pod everything comes from the environment that the chart sets:
    finetune-operator
  what it does right now:
    curl localhost:8080/metrics | grep finetune_operator_
"""


class ConfigError(Exception):
    """A setting that cannot work: which, its value, what is expected."""


@dataclass(frozen=True)
class Options:
    namespace: str
    identity: str
    trainer_image: str
    small_image: str
    artifacts_uri: str
    artifacts_secret: str
    image_pull_policy: str
    network_policies: bool
    cluster_domain: str
    progress_write_seconds: float
    poll_seconds: float
    workers: int
    max_writes: int
    resync_seconds: float
    lease_seconds: float
    listen_host: str
    listen_port: int
    log_level: str
    kubeconfig: str | None
    serving_image: str
    gateway: str
    gateway_domain: str
    policy_hostnames: tuple[str, ...]

    def plan_config(self, installation_key: bytes, *, gateway_api: bool = True) -> Config:
        return Config(
            namespace=self.namespace,
            trainer_image=self.trainer_image,
            small_image=self.small_image,
            artifacts_uri=self.artifacts_uri,
            artifacts_secret=self.artifacts_secret,
            installation_key=installation_key,
            image_pull_policy=self.image_pull_policy,
            network_policies=self.network_policies,
            cluster_domain=self.cluster_domain,
            progress_write_seconds=self.progress_write_seconds,
            poll_seconds=self.poll_seconds,
            serving_image=self.serving_image,
            gateway=self.gateway,
            gateway_domain=self.gateway_domain,
            hostname_patterns=self.policy_hostnames,
            gateway_api=gateway_api,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="finetune-operator",
        description="Schedules FineTuneJobs, keeps their work safe, publishes what passes its gate, and rolls it out.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    parser.add_argument("--version", action="version", version=f"finetune-operator {version('finetune-operator')}")

    def add(flag: str, text: str, default: str = "") -> None:
        env = _env_name(flag)
        shown = f"; default {default}" if default else ""
        parser.add_argument(flag, metavar="VALUE", help=f"{text} [{env}{shown}]")

    add("--namespace", "the operator's own namespace: its Lease and key Secret", "the service account's")
    add("--identity", "this replica's name in the Lease", "host name and a random part")
    add("--trainer-image", "default image of trainer and publish pods; required")
    add("--small-image", "image of preflight pods: the operator's own; required")
    add("--artifacts-uri", "default place of run directories, for example s3://models/runs", "none")
    add("--artifacts-secret", "Secret with the store's credentials, in each job's namespace", "none")
    add(
        "--serving-image", "default image of engine pods, vLLM; without one every ModelDeployment names its own", "none"
    )
    add("--gateway", "the installation's Gateway as namespace/name; without one each ModelDeployment names its own")
    add("--gateway-domain", "hostnames default to <name>.<namespace>.<this domain>; without one to any host", "none")
    add(
        "--policy-hostnames",
        "what tenants may claim, separated by commas, for example *.{namespace}.models.example.com",
        "only the default hostname",
    )
    add("--image-pull-policy", "of the pods that the operator makes: " + ", ".join(_PULL), "IfNotPresent")
    parser.add_argument(
        "--network-policies",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="one NetworkPolicy per run [FINETUNE_NETWORK_POLICIES; default true]",
    )
    add("--cluster-domain", "of the cluster's DNS", "cluster.local")
    add(
        "--progress-write-seconds",
        "progress is written to status at most this often per job; more rarely while the API server is slow",
        "15",
    )
    add("--poll-seconds", "pause between two polls of one job's progress", "2")
    add("--workers", "objects planned at the same time", "16")
    add("--max-writes", "API writes in flight", "32")
    add("--resync-seconds", "pause between two complete LISTs", "300")
    add("--lease-seconds", "another replica takes over after this long without a renewal", "10")
    add("--listen", "address of /livez, /readyz and /metrics", "0.0.0.0:8080")
    add("--log-level", ", ".join(_LEVELS), "info")
    parser.add_argument(
        "--kubeconfig", metavar="PATH", help="[KUBECONFIG; default: the pod's service account, else ~/.kube/config]"
    )
    return parser


def load(argv: Sequence[str] | None = None, env: Mapping[str, str] | None = None) -> Options:
    """Raises ConfigError; `--help` and unknown flags end the process as usual."""
    env = os.environ if env is None else env
    flags = vars(_parser().parse_args(argv))
    read = _Reader(flags, env)
    host, port = read.address("--listen", "0.0.0.0:8080")
    return Options(
        namespace=read.name("--namespace", _own_namespace()),
        identity=read.text("--identity") or f"{socket.gethostname()}-{secrets.token_hex(3)}",
        trainer_image=read.required("--trainer-image", "an image, for example registry.example/trainer:0.1.0"),
        small_image=read.required("--small-image", "an image, for example registry.example/finetune-operator:0.1.0"),
        artifacts_uri=read.store("--artifacts-uri"),
        artifacts_secret=read.name("--artifacts-secret", "", optional=True),
        image_pull_policy=read.one_of("--image-pull-policy", _PULL, "IfNotPresent"),
        network_policies=read.boolean("--network-policies", True),
        cluster_domain=read.name("--cluster-domain", "cluster.local"),
        progress_write_seconds=read.number("--progress-write-seconds", 15.0, 0.1, 3600),
        poll_seconds=read.number("--poll-seconds", 2.0, 0.1, 300),
        workers=int(read.number("--workers", 16, 1, 256)),
        max_writes=int(read.number("--max-writes", 32, 1, 1024)),
        resync_seconds=read.number("--resync-seconds", 300.0, 1, 86400),
        lease_seconds=read.number("--lease-seconds", 10.0, 2, 300),
        listen_host=host,
        listen_port=port,
        log_level=read.one_of("--log-level", _LEVELS, "info"),
        kubeconfig=flags.get("kubeconfig") or env.get("KUBECONFIG") or None,
        serving_image=read.text("--serving-image"),
        gateway=read.matching("--gateway", _GATEWAY, "namespace/name of a Gateway, for example traffic/main"),
        gateway_domain=read.matching("--gateway-domain", _DOMAIN, "a domain such as models.example.com"),
        policy_hostnames=read.patterns("--policy-hostnames"),
    )


def _env_name(flag: str) -> str:
    return "FINETUNE_" + flag.removeprefix("--").replace("-", "_").upper()


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text().strip()
    except OSError:
        return ""


class _Reader:
    def __init__(self, flags: Mapping[str, Any], env: Mapping[str, str]) -> None:
        self._flags, self._env = flags, env

    def text(self, flag: str) -> str:
        value = self._flags.get(flag.removeprefix("--").replace("-", "_"))
        if value is None:
            value = self._env.get(_env_name(flag), "")
        return str(value).strip()

    def required(self, flag: str, expected: str) -> str:
        value = self.text(flag)
        if not value:
            raise ConfigError(f"{flag} (or {_env_name(flag)}) is not set; expected {expected}")
        return value

    def name(self, flag: str, default: str, *, optional: bool = False) -> str:
        value = self.text(flag) or default
        if not value and optional:
            return ""
        if not value:
            raise ConfigError(f"{flag} (or {_env_name(flag)}) is not set; expected a name such as finetune-system")
        if not _NAME.match(value):
            raise ConfigError(_wrong(flag, value, "lower-case letters, digits, - and . as in finetune-system"))
        return value

    def store(self, flag: str) -> str:
        value = self.text(flag).rstrip("/")
        if value and not _STORE.match(value):
            raise ConfigError(_wrong(flag, value, "s3://bucket/path, pvc://claim/path or file:///path"))
        return value

    def matching(self, flag: str, pattern: re.Pattern[str], expected: str) -> str:
        value = self.text(flag)
        if value and not pattern.match(value):
            raise ConfigError(_wrong(flag, value, expected))
        return value

    def patterns(self, flag: str) -> tuple[str, ...]:
        found = tuple(part.strip() for part in self.text(flag).split(",") if part.strip())
        for one in found:
            if not _HOSTNAMES.match(one):
                expected = "hostnames (the first label may be *, {namespace} is the tenant's), or * for all"
                raise ConfigError(_wrong(flag, one, expected))
        return found

    def one_of(self, flag: str, choices: Sequence[str], default: str) -> str:
        value = self.text(flag) or default
        if value not in choices:
            raise ConfigError(_wrong(flag, value, "one of " + ", ".join(choices)))
        return value

    def boolean(self, flag: str, default: bool) -> bool:
        value = (self.text(flag) or str(default)).lower()
        if value not in ("true", "false"):
            raise ConfigError(_wrong(flag, value, "true or false"))
        return value == "true"

    def number(self, flag: str, default: float, low: float, high: float) -> float:
        value = self.text(flag) or str(default)
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ConfigError(_wrong(flag, value, f"a number from {low:g} to {high:g}"))
        return number

    def address(self, flag: str, default: str) -> tuple[str, int]:
        value = self.text(flag) or default
        host, colon, port = value.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:
            raise ConfigError(_wrong(flag, value, "host:port, for example 0.0.0.0:8080"))
        return host.strip("[]"), int(port)


def _wrong(flag: str, value: str, expected: str) -> str:
    return f"{flag} (or {_env_name(flag)}) is {value!r}; expected {expected}"
