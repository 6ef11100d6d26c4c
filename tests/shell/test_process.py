"""The console script as processes against a real API server: two replicas, killed and restarted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import ApiServer
from tests.kube.builders import Json, new_finetunejob

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]
WAIT = 40.0


class Installation:
    """A namespace of its own for the operator's Lease and key and for its jobs."""

    def __init__(self, api: ApiServer, folder: Path) -> None:
        self.api, self.folder = api, folder
        self.namespace = f"ns-{uuid.uuid4().hex[:8]}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        api.kubectl("create", "namespace", self.namespace)
        api.kubectl("create", "serviceaccount", "default", "-n", self.namespace)  # no controller makes it here

    def start(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "finetune_operator", "--kubeconfig", str(self.api.kubeconfig)]
        flags = {
            "namespace": self.namespace,
            "identity": name,
            "trainer-image": "t:1",
            "small-image": "s:1",
            "artifacts-uri": "s3://bucket/runs",
            "listen": "127.0.0.1:0",
            "lease-seconds": "3",
        }
        for flag, value in flags.items():
            command += [f"--{flag}", value]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)
        return self.processes[name]

    def kill(self, name: str, number: int) -> int:
        self.processes[name].send_signal(number)
        return self.processes[name].wait(WAIT)

    def stop_all(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait(WAIT)

    def logs(self) -> str:
        return "\n".join(f"--- {p.name}\n{p.read_text()[-4000:]}" for p in sorted(self.folder.glob("*.log")))

    def apply(self, name: str) -> None:
        manifest = self.folder / "job.yaml"
        manifest.write_text(yaml.safe_dump(new_finetunejob(name)))
        self.api.kubectl("apply", "-n", self.namespace, "-f", str(manifest))

    def get(self, kind: str, name: str) -> Json | None:
        found = self.api.kubectl("get", kind, name, "-n", self.namespace, "-o", "json", "--ignore-not-found")
        parsed: Json | None = json.loads(found) if found.strip() else None
        return parsed

    def holder(self) -> str:
        lease = self.get("lease", "finetune-operator")
        return str((lease or {}).get("spec", {}).get("holderIdentity") or "")

    def until(self, predicate: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + WAIT
        while not (found := predicate()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not reached in {WAIT} s\n{self.logs()}")
            time.sleep(0.1)
        return found

    def preflight_pod(self, name: str) -> Json:
        found: Json = self.until(lambda: self.get("pod", f"{name}-preflight"))
        return found


@pytest.fixture
def installation(apiserver: ApiServer, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(apiserver, tmp_path)
    yield installation
    installation.stop_all()
    apiserver.kubectl("delete", "finetunejobs", "--all", "-n", installation.namespace, "--wait=false")


def test_a_job_gets_its_preflight_pod_and_a_status(installation: Installation) -> None:
    installation.start("one")
    installation.apply("bot")
    pod = installation.preflight_pod("bot")
    job = installation.until(lambda: (j := installation.get("finetunejob", "bot")) and j.get("status") and j)
    assert pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    assert job["status"]["observedGeneration"] == 1
    assert not [k for k in job["metadata"].get("annotations", {}) if "kopf" in k]
    assert "finalizers" not in job["metadata"]


def test_killed_and_restarted_it_goes_on_and_repeats_nothing(installation: Installation) -> None:
    installation.start("one")
    installation.apply("bot")
    pod = installation.preflight_pod("bot")
    assert installation.kill("one", signal.SIGKILL) == -signal.SIGKILL
    installation.apply("second")
    installation.start("one")
    installation.preflight_pod("second")
    again = installation.get("pod", "bot-preflight")
    assert again is not None
    assert again["metadata"]["uid"] == pod["metadata"]["uid"]


def test_the_other_replica_takes_over(installation: Installation) -> None:
    installation.start("one")
    installation.until(lambda: installation.holder() == "one")
    installation.start("two")
    installation.apply("bot")
    installation.preflight_pod("bot")
    assert installation.kill("one", signal.SIGTERM) == 0
    installation.until(lambda: installation.holder() == "two")
    installation.apply("second")
    installation.preflight_pod("second")
    installation.start("three")
    assert installation.kill("two", signal.SIGKILL) == -signal.SIGKILL
    installation.until(lambda: installation.holder() == "three")
    installation.apply("third")
    installation.preflight_pod("third")


def test_a_leader_that_was_frozen_ends_itself(installation: Installation) -> None:
    one = installation.start("one")
    installation.until(lambda: installation.holder() == "one")
    os.kill(one.pid, signal.SIGSTOP)
    installation.start("two")
    installation.until(lambda: installation.holder() == "two")
    os.kill(one.pid, signal.SIGCONT)
    assert one.wait(WAIT) == 1
    assert installation.holder() == "two"
