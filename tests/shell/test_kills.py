"""Twenty kills at random moments, and the gang that trains does not notice: real API server, real Job controller."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.cluster import ApiServer
from finetune_api.reports import PreflightReport
from tests.kube.builders import Json
from tests.shell.installation import Installation

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]
KILLS = 20
REPORT = PreflightReport(
    exit_code=0,
    reason="Accepted",
    message="all is well",
    run_key="0123456789abcdef",
    model_revision="r1",
    data_fingerprint="f1",
    at="2026-01-02T03:04:05.000Z",
)


@pytest.fixture
def installation(need: Callable[[str], Path], tmp_path: Path) -> Iterator[Installation]:
    for binary in ("etcd", "kube-apiserver", "kubectl", "kube-controller-manager"):
        need(binary)
    with ApiServer(controllers=True) as api:
        api.kubectl("apply", "--server-side", "-f", str(Path(__file__).resolve().parents[2] / "crds"))
        for crd in ("finetunejobs", "modeldeployments"):
            api.kubectl("wait", "--for=create", f"crd/{crd}.finetune.dev", "--timeout=20s")
        installation = Installation(api, tmp_path, controllers=True)
        installation.until(lambda: installation.get("serviceaccount", "default"))
        yield installation
        installation.stop_all()


def _ended(message: str) -> Json:
    state = {
        "terminated": {"exitCode": 0, "reason": "Completed", "message": message, "finishedAt": "2026-01-02T03:04:05Z"}
    }
    return {
        "phase": "Succeeded",
        "containerStatuses": [
            {"name": "main", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        ],
    }


def _running() -> Json:
    state = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"name": "main", "image": "i", "imageID": "", "ready": True, "restartCount": 0, "state": state}
        ],
    }


def test_a_training_gang_survives_the_operators_deaths(installation: Installation) -> None:
    installation.start("one")
    installation.apply("bot")
    installation.preflight_pod("bot")
    installation.patch_status("pod", "bot-preflight", _ended(json.dumps(REPORT.to_wire())))
    job = installation.until(lambda: installation.get("job", "bot-1"))
    gang = "finetune.dev/job=bot,finetune.dev/role=trainer"
    (pod,) = installation.until(lambda: installation.list("pods", gang))
    installation.patch_status("pod", pod["metadata"]["name"], _running())
    installation.until(lambda: _phase(installation) == "Running")
    rng = random.Random(7)
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.0, 2.5))  # the moment of death is the point
        installation.kill("one", signal.SIGKILL)
        installation.start("one")
    installation.apply("after")
    installation.preflight_pod("after")
    (still,) = installation.list("pods", gang)
    assert still["metadata"]["uid"] == pod["metadata"]["uid"]
    assert "deletionTimestamp" not in still["metadata"]
    same = installation.get("job", "bot-1")
    assert same is not None
    assert same["metadata"]["uid"] == job["metadata"]["uid"]
    assert "deletionTimestamp" not in same["metadata"]
    status = (installation.get("finetunejob", "bot") or {})["status"]
    assert (status["phase"], status["restarts"], len(status["attempts"])) == ("Running", 0, 1)
    assert "finishedAt" not in status["attempts"][0]


def _phase(installation: Installation) -> str:
    return str(((installation.get("finetunejob", "bot") or {}).get("status") or {}).get("phase"))
