"""Everything one scenario runs against: API server, controllers, scheduler, fake nodes, and the chart without its pod.

The operator itself is a process of its own, started with the environment that the chart's Deployment gives it, the
chart's service account and its roles (`operator_process`).
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from bench import audit, sandbox, seed, workload
from bench.audit import AuditLog
from bench.procfs import cpu_seconds
from e2e import tools
from e2e.cluster import ApiServer
from e2e.cluster.chart import GATEWAY_CRDS
from e2e.cluster.process import Daemon, tail, wait_for
from finetune_operator.core.types import Config
from finetune_operator.shell.config import load
from finetune_operator.shell.key import KEY_SECRET

REPO = Path(__file__).resolve().parents[1]
NAMESPACE = "finetune-system"
RELEASE = "ft"
ACCOUNT = f"{RELEASE}-finetune-operator"
OPERATOR_USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
BINARIES = ("etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kwok", "helm")
SERVERS = ("kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler", "kwok")
_PODS_PER_NODE = 200
_KEY = b"bench" * 8

_SUSPEND = {
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": "suspend-attempts"},
            "spec": {
                "matchConstraints": {
                    "resourceRules": [
                        {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
                    ]
                },
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "mutations": [
                    {
                        "patchType": "JSONPatch",
                        "jsonPatch": {"expression": '[JSONPatch{op: "add", path: "/spec/suspend", value: true}]'},
                    }
                ],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": "suspend-attempts"},
            "spec": {"policyName": "suspend-attempts"},
        },
    ],
}
"""Jobs start suspended, as a queue (Kueue's webhook) makes them: no trainer pods."""


class Lab:
    """`jobs`: how many FineTuneJobs it must have namespaces and nodes for; `queued`: their Jobs stay suspended;
    `seeded`: only the API server, for objects that `seed` makes; `serving`: routes are served, and each job is a
    ModelDeployment with two engines."""

    def __init__(self, jobs: int, *, queued: bool, folder: Path, seeded: bool = False, serving: bool = False) -> None:
        self.jobs, self.queued, self._seeded, self._serving = jobs, queued, seeded, serving
        self._folder = folder
        policy = folder / "audit-policy.yaml"
        policy.write_text(yaml.safe_dump(audit.policy(OPERATOR_USER)))
        log = folder / "audit.log"
        log.touch()
        self.audit = AuditLog(log)
        self.api = ApiServer(
            controllers=not seeded,
            scheduler=not seeded,
            kwok=not seeded,
            kwok_config=workload.kwok_stages(),
            apiserver_flags=[
                f"--audit-policy-file={policy}",
                f"--audit-log-path={log}",
                # One file: what is read from it goes on where the last reading ended. In MiB; the default is 100.
                "--audit-log-maxsize=8192",
            ],
            # kwok's leases may be late when two cores are full; nodes that then look lost are not what is measured.
            controller_flags=["--node-monitor-grace-period=10m"],
        )
        self.environment: dict[str, str] = {}
        self._stub: Daemon | None = None

    def __enter__(self) -> Lab:
        self.api.start()
        try:
            self._fill()
        except BaseException:
            self.api.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stub is not None:
            self._stub.stop()
        self.api.stop()

    def cpu(self) -> dict[str, float]:
        """CPU seconds of the servers so far."""
        return {name: cpu_seconds(pid) for name in SERVERS if (pid := self.api.pid(name)) is not None}

    def _fill(self) -> None:
        self._namespaces()
        self._chart()
        self._service_account()
        command = ["env", f"PYTHONPATH={REPO}", sys.executable, "-m", "bench.stub"]
        self._stub = Daemon("progress-stub", self._folder, command, with_parent=True)
        self._stub.start()
        if self._seeded:
            self._apply({"apiVersion": "v1", "kind": "List", "items": self._found()})
        else:
            self._fake()

    def _fake(self) -> None:
        nodes = -(-self.jobs * (3 if self._serving else 1) // _PODS_PER_NODE) + 1
        self.api.fake_nodes(nodes, gpus=_PODS_PER_NODE + 10)
        wait_for("fake nodes", lambda: self._ready_nodes() == nodes, 60, lambda: tail(self.api.folder / "kwok.log"))
        if self.queued:
            self._apply(_SUSPEND)
            wait_for("the policy that suspends Jobs", self._suspends, 60, lambda: "Jobs are not suspended")

    def _found(self) -> list[dict[str, Any]]:
        """What an operator that starts here finds besides FineTuneJobs: nodes, accounts without which no pod is
        admitted, and the key that a former process made."""
        accounts = [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}
            for namespace in workload.namespaces(self.jobs)
        ]
        name = {"name": KEY_SECRET, "namespace": NAMESPACE}
        data = {"key": base64.b64encode(_KEY).decode()}
        key = {"apiVersion": "v1", "kind": "Secret", "metadata": name, "data": data}
        return [*seed.nodes(), *accounts, key]

    def plan_config(self) -> Config:
        """What the operator's plans are made with."""
        return load([], environment_of(self, {})).plan_config(_KEY)

    def _apply(self, document: Any) -> None:
        self.api.kubectl("create", "-f", "-", input=json.dumps(document))

    def _namespaces(self) -> None:
        for name in [NAMESPACE, *workload.namespaces(self.jobs)]:
            self._apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def _chart(self) -> None:
        """All of the chart but the Deployment, whose environment becomes that of our process."""
        flags = ["--namespace", NAMESPACE, "--set", "artifacts.uri=s3://models/runs", "--set", "replicas=1"]
        command = [str(tools.path("helm")), "template", RELEASE, str(REPO / "helm" / "finetune-operator"), *flags]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        objects = [o for o in yaml.safe_load_all(text) if o]
        deployment = next(o for o in objects if o["kind"] == "Deployment")
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        self.environment = {e["name"]: e["value"] for e in container["env"] if "value" in e}
        if self._serving:
            self.api.kubectl("apply", "--server-side", "-f", str(GATEWAY_CRDS))
            self.api.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(GATEWAY_CRDS))
        rest = [o for o in objects if o["kind"] != "Deployment"]
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": rest})
        self.api.kubectl("apply", "--server-side", "-n", NAMESPACE, "-f", "-", input=document)
        wait_for("the CRDs", self._crds_served, 30, lambda: "our kinds are not served")

    def _crds_served(self) -> bool:
        try:
            self.api.kubectl("get", "finetunejobs,modeldeployments", "-A")
        except subprocess.CalledProcessError:
            return False
        return True

    def _service_account(self) -> None:
        """Where a pod finds it, in this run's own mount namespace."""
        token = self.api.kubectl("create", "token", ACCOUNT, "-n", NAMESPACE, "--duration=6h")
        (sandbox.ACCOUNT / "token").write_text(token)
        (sandbox.ACCOUNT / "namespace").write_text(NAMESPACE)
        (sandbox.ACCOUNT / "ca.crt").write_bytes(self.api.plane.authority.ca.cert.read_bytes())

    def _ready_nodes(self) -> int:
        path = "{range .items[*]}{.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}"
        return self.api.kubectl("get", "nodes", "-o", f"jsonpath={path}").split().count("True")

    def _suspends(self) -> bool:
        job = json.loads(self.api.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=_PROBE))
        return bool(job["spec"].get("suspend"))


_PROBE = json.dumps(
    {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "probe", "namespace": "default"},
        "spec": {
            "template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]},
            }
        },
    }
)


def environment_of(lab: Lab, extra: Mapping[str, str]) -> dict[str, str]:
    """The chart's, and where a pod would be told the API server is."""
    host, _, port = lab.api.url.removeprefix("https://").partition(":")
    return {
        **lab.environment,
        "PATH": "/usr/bin:/bin",
        "FINETUNE_NAMESPACE": NAMESPACE,
        "FINETUNE_IDENTITY": f"bench-{time.monotonic_ns()}",
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
        # A machine too busy to renew within the chart's Lease would end the process that is being measured.
        "FINETUNE_LEASE_SECONDS": "60",
        **extra,
    }
