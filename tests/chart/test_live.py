"""The operator with exactly the chart's environment and rights, against a real API server: no call is forbidden."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import ApiServer
from e2e.ports import free_ports
from finetune_api.reports import PreflightReport
from finetune_api.serveconfig import CheckReport, VerifyReport
from tests.chart.helm import CHART, NAMESPACE, REPO, Helm
from tests.chart.pss import violations
from tests.chart.test_operator_reads import environment

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]
REPORT = PreflightReport(
    exit_code=0,
    reason="Accepted",
    message="checked",
    run_key="0123456789abcdef",
    model_revision="r1",
    data_fingerprint="f1",
    at="2026-01-01T00:00:00Z",
)
DIGEST = "sha256:" + "0123456789abcdef" * 4
VERIFIED = VerifyReport(
    exit_code=0, reason="Verified", message="whole", digest=DIGEST, gate_passed=True, at="2026-01-01T00:00:00Z"
)
ANSWERED = CheckReport(exit_code=0, reason="Checked", message="answers", at="2026-01-01T00:00:00Z")
GATEWAY_API = str(CHART / "charts" / "gateway-api" / "crds")


class Operator:
    def __init__(self, api: ApiServer, process: subprocess.Popen[bytes], log: Path) -> None:
        self.api, self.process, self._log = api, process, log

    def log(self) -> str:
        return self._log.read_text()

    def find(self, kind: str, name: str, namespace: str = "demo") -> dict[str, Any]:
        """Empty when it is not there."""
        text = self.api.kubectl("-n", namespace, "get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else {}

    def going(self, kind: str, name: str) -> bool:
        """Deleted, or would be: no garbage collector runs here to finish a foreground deletion."""
        found = self.find(kind, name)
        return not found or "deletionTimestamp" in found["metadata"]

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + 60
        while not (found := condition()):
            assert self.process.poll() is None, f"the operator ended:\n{self.log()}"
            assert time.monotonic() < deadline, f"{what} did not come\n{self.log()}"
            time.sleep(0.2)
        return found


def kubeconfig(api: ApiServer, folder: Path) -> Path:
    """Of the chart's service account."""
    config = yaml.safe_load(api.kubeconfig.read_text())
    token = api.kubectl("-n", NAMESPACE, "create", "token", "finetune-operator").strip()
    for user in config["users"]:
        user["user"] = {"token": token}
    path = folder / "operator.kubeconfig"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
def operator(need: Callable[[str], Path], helm: Helm, tmp_path: Path) -> Iterator[Operator]:
    for binary in ("etcd", "kube-apiserver", "kubectl"):
        need(binary)
    settings = [
        *("--set", "artifacts.uri=s3://artifacts/runs,artifacts.secretName=finetune-artifacts"),
        *("--set", "gateway.name=public,gateway.namespace=edge,gateway.domain=models.example.com"),
    ]
    with ApiServer() as api:
        for name in (NAMESPACE, "demo"):
            api.kubectl("create", "namespace", name)
        # Nobody else makes it here: the controller-manager is not running.
        api.kubectl("-n", "demo", "create", "serviceaccount", "default")
        api.kubectl("apply", "--server-side", "-f", GATEWAY_API)
        api.kubectl("wait", "--for=condition=Established", "-f", GATEWAY_API)
        api.kubectl("apply", "--server-side", "-f", "-", input=helm.text(*settings))
        env = os.environ | environment(helm.template(*settings))
        env |= {"KUBECONFIG": str(kubeconfig(api, tmp_path)), "FINETUNE_LISTEN": f"127.0.0.1:{free_ports(1)[0]}"}
        log = tmp_path / "operator.log"
        with log.open("wb") as out:
            process = subprocess.Popen([sys.executable, "-m", "finetune_operator"], env=env, stdout=out, stderr=out)
        try:
            yield Operator(api, process, log)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def terminated(report: Any) -> dict[str, Any]:
    """A container's status at its end, with its last words."""
    words = report.model_dump_json(by_alias=True, exclude_none=True)
    ended = {"exitCode": 0, "message": words, "finishedAt": "2026-01-01T00:00:00Z"}
    return {
        "name": "main",
        "image": "i",
        "imageID": "i",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": ended},
    }


def set_status(api: ApiServer, kind: str, name: str, status: dict[str, Any]) -> None:
    patch = json.dumps({"status": status})
    api.kubectl("-ndemo", "patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)


def pod_of(api: ApiServer, owner: dict[str, Any], status: dict[str, Any]) -> None:
    """What the controller-manager and a kubelet would make of a Job or Deployment."""
    meta, template = owner["metadata"], owner["spec"]["template"]
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}
    if owner["kind"] == "Deployment":  # between a Deployment and its pods stands a ReplicaSet
        reference |= {"kind": "ReplicaSet", "name": f"{meta['name']}-5d59d67564"}
    labels = template["metadata"].get("labels", {})
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{meta['name']}-0",
            "labels": labels,
            "ownerReferences": [reference | {"controller": True}],
        },
        "spec": template["spec"],
    }
    api.kubectl("-ndemo", "create", "-f", "-", input=json.dumps(pod))
    set_status(api, "pod", f"{meta['name']}-0", status)


def test_a_jobs_life_needs_no_right_that_the_chart_does_not_give(operator: Operator) -> None:
    api = operator.api
    operator.until(lambda: operator.find("lease", "finetune-operator", NAMESPACE), "the Lease")
    api.kubectl("apply", "-f", str(REPO / "examples" / "01-finetune.yaml"))

    pod = operator.until(lambda: operator.find("pod", "support-bot-preflight"), "the preflight pod")
    assert violations(pod["spec"]) == []
    set_status(api, "pod", "support-bot-preflight", {"phase": "Succeeded", "containerStatuses": [terminated(REPORT)]})

    job = operator.until(lambda: operator.find("job", "support-bot-1"), "the first attempt's Job")
    assert violations(job["spec"]["template"]["spec"]) == []
    assert operator.find("service", "finetune-gang")
    assert operator.find("networkpolicy", "support-bot-gang")
    secrets = [v["secret"]["secretName"] for v in job["spec"]["template"]["spec"]["volumes"] if "secret" in v]
    token = next(name for name in secrets if "token" in name)
    assert operator.find("secret", token)

    api.kubectl("-ndemo", "patch", "ftj", "support-bot", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    operator.until(lambda: operator.going("job", "support-bot-1"), "the Job's deletion")
    operator.until(lambda: operator.going("secret", token), "the token's deletion")
    operator.until(
        lambda: json.loads(api.kubectl("-ndemo", "get", "events", "-o", "json"))["items"], "an Event about the job"
    )

    operator.process.send_signal(signal.SIGTERM)
    assert operator.process.wait(timeout=30) == 0, operator.log()
    assert "orbidden" not in operator.log()


def test_a_deployments_life_needs_no_right_that_the_chart_does_not_give(operator: Operator) -> None:
    """Verified, started, checked, routed, promoted, scaled; the API server's part, the Gateway's and the kubelet's are
    played by hand."""
    api = operator.api
    operator.until(lambda: operator.find("lease", "finetune-operator", NAMESPACE), "the Lease")
    manifest = yaml.safe_load((REPO / "examples" / "05-serve.yaml").read_text())
    manifest["spec"]["model"] = {"uri": "s3://artifacts/published", "secretRef": {"name": "finetune-artifacts"}}
    api.kubectl("apply", "-f", "-", input=json.dumps(manifest))

    def deployment() -> dict[str, Any]:
        return operator.find("modeldeployment", "support-bot")

    def child(kind: str, role: str) -> dict[str, Any] | None:
        selector = f"finetune.dev/deployment=support-bot,finetune.dev/role={role}"
        items = json.loads(api.kubectl("-ndemo", "get", kind, "-l", selector, "-o", "json"))["items"]
        return items[0] if items else None

    verifier = operator.until(lambda: child("jobs", "verifier"), "the verifier's Job")
    assert violations(verifier["spec"]["template"]["spec"]) == []
    pod_of(api, verifier, {"phase": "Succeeded", "containerStatuses": [terminated(VERIFIED)]})

    engine = operator.until(lambda: child("deployments", "engine"), "the engine's Deployment")
    assert violations(engine["spec"]["template"]["spec"]) == []
    operator.until(lambda: child("services", "engine"), "the engine's Service")
    operator.until(lambda: operator.find("networkpolicy", "support-bot-engine"), "the engines' NetworkPolicy")
    now = "2026-01-01T00:00:00Z"
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": now}
    pod_of(api, engine, {"phase": "Running", "conditions": [ready | {"type": "PodScheduled"}, ready]})

    checker = operator.until(lambda: child("jobs", "checker"), "the checker's Job")
    assert violations(checker["spec"]["template"]["spec"]) == []
    pod_of(api, checker, {"phase": "Succeeded", "containerStatuses": [terminated(ANSWERED)]})

    route = operator.until(lambda: operator.find("httproute", "support-bot"), "the route")
    assert route["spec"]["hostnames"] == ["support-bot.demo.models.example.com"]
    (parent,) = route["spec"]["parentRefs"]
    assert (parent["namespace"], parent["name"]) == ("edge", "public")
    said = {"observedGeneration": route["metadata"]["generation"], "status": "True", "lastTransitionTime": now}
    conditions = [{"type": t, "reason": t, "message": "", **said} for t in ("Accepted", "ResolvedRefs")]
    accepted = {"parentRef": parent, "controllerName": "example.com/gateway", "conditions": conditions}
    set_status(api, "httproute", "support-bot", {"parents": [accepted]})

    operator.until(lambda: deployment()["status"].get("phase") == "Healthy", "the promotion")
    status = deployment()["status"]
    assert status["stable"]["digest"] == DIGEST
    assert status["url"] == "http://support-bot.demo.models.example.com"
    jobs = [job["metadata"]["name"] for job in (verifier, checker)]
    operator.until(lambda: all(operator.going("job", name) for name in jobs), "the removal of the Jobs that answered")

    api.kubectl("-ndemo", "scale", "modeldeployment", "support-bot", "--replicas=2")
    name = engine["metadata"]["name"]
    operator.until(lambda: operator.find("deployment", name)["spec"]["replicas"] == 2, "the scaling")
    operator.process.send_signal(signal.SIGTERM)
    assert operator.process.wait(timeout=30) == 0, operator.log()
    assert "orbidden" not in operator.log()
