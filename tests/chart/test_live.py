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
from e2e.cluster.apiserver import free_ports
from finetune_api.reports import PreflightReport
from tests.chart.helm import NAMESPACE, REPO, Helm
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
    settings = ["--set", "artifacts.uri=s3://artifacts/runs,artifacts.secretName=finetune-artifacts"]
    with ApiServer() as api:
        for name in (NAMESPACE, "demo"):
            api.kubectl("create", "namespace", name)
        # Nobody else makes it here: the controller-manager is not running.
        api.kubectl("-n", "demo", "create", "serviceaccount", "default")
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


def test_a_jobs_life_needs_no_right_that_the_chart_does_not_give(operator: Operator) -> None:
    api = operator.api
    operator.until(lambda: operator.find("lease", "finetune-operator", NAMESPACE), "the Lease")
    api.kubectl("apply", "-f", str(REPO / "examples" / "01-finetune.yaml"))

    pod = operator.until(lambda: operator.find("pod", "support-bot-preflight"), "the preflight pod")
    assert violations(pod["spec"]) == []
    ended = {
        "name": pod["spec"]["containers"][0]["name"],
        "image": "i",
        "imageID": "i",
        "ready": False,
        "restartCount": 0,
        "state": {
            "terminated": {
                "exitCode": 0,
                "message": REPORT.model_dump_json(by_alias=True, exclude_none=True),
                "finishedAt": "2026-01-01T00:00:00Z",
            }
        },
    }
    status = json.dumps({"status": {"phase": "Succeeded", "containerStatuses": [ended]}})
    api.kubectl("-ndemo", "patch", "pod", "support-bot-preflight", "--subresource=status", "--type=merge", "-p", status)

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
