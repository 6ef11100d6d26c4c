"""The operator installed from outside: processes of the console script, a namespace, a kubeconfig, kubectl."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import ApiServer
from tests.kube.builders import Json, new_finetunejob

WAIT = 40.0


class Installation:
    """A namespace of its own for the operator's Lease and key and for its jobs."""

    def __init__(self, api: ApiServer, folder: Path, *, controllers: bool = False) -> None:
        self.api, self.folder = api, folder
        self.namespace = f"ns-{uuid.uuid4().hex[:8]}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        api.kubectl("create", "namespace", self.namespace)
        if not controllers:
            api.kubectl("create", "serviceaccount", "default", "-n", self.namespace)

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

    def list(self, kind: str, selector: str) -> list[Json]:
        found = self.api.kubectl("get", kind, "-n", self.namespace, "-l", selector, "-o", "json")
        items: list[Json] = json.loads(found)["items"]
        return items

    def patch_status(self, kind: str, name: str, status: Json) -> None:
        """As a kubelet would."""
        body = json.dumps({"status": status})
        self.api.kubectl("patch", kind, name, "-n", self.namespace, "--subresource=status", "--type=merge", "-p", body)

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
