"""Builds run configs and runs trainer pods as local processes: the real launcher, a file:// store, loopback only."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.ports import free_ports
from finetune_api import runconfig as rc
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.manifests import CheckpointManifest
from finetune_api.reports import LastWords
from finetune_api.runconfig import RunConfig
from finetune_api.runkey import spec_digest

TOKEN = "test-token"
PATIENCE = 300.0
"""Importing torch and transformers takes 5 s alone on a machine and minutes on a crowded one."""


def spec(model: Path, data: Path, **changes: Any) -> dict[str, Any]:
    """A FineTuneJob spec on the wire; `changes` are merged block by block."""
    document: dict[str, Any] = {
        "model": {"uri": f"file://{model}"},
        "data": {"train": [{"uri": f"file://{data}"}], "maxLength": 64, "packing": False},
        "method": {"type": "LoRA", "lora": {"rank": 8, "alpha": 16}},
        "training": {"maxSteps": 12, "globalBatchSize": 8, "precision": "FP32", "learningRate": "5e-3"},
        "checkpoint": {"interval": "1h"},
        "resources": {"gpusPerNode": 0},
    }
    for block, value in changes.items():
        document[block] = {**document.get(block, {}), **value} if isinstance(value, dict) else value
    return document


def config(run_dir: Path, document: dict[str, Any], **changes: Any) -> RunConfig:
    parsed = FineTuneJobSpec.model_validate(document)
    values: dict[str, Any] = {
        "namespace": "team-a",
        "name": "job",
        "uid": "00000000-0000-0000-0000-000000000001",
        "spec": parsed,
        "spec_digest": spec_digest(parsed),
        "attempt": 1,
        "runs_uri": f"file://{run_dir}",
        "run_key": "0123456789abcdef",
        "grace_seconds": 60,
    }
    return RunConfig.model_validate(values | changes)


def wait_until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:.0f} s in vain for {what}")
        time.sleep(0.02)
    return value


@dataclass
class Pod:
    index: int
    port: int
    scratch: Path
    process: subprocess.Popen[bytes]

    def get(self, path: str, token: str | None = TOKEN, method: str = "GET", body: Any = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            content = json.dumps(body).encode() if isinstance(body, dict) else body
            connection.request(method, path, body=content, headers={rc.TOKEN_HEADER: token} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def progress(self) -> dict[str, Any]:
        try:
            status, content = self.get("/progress")
        except OSError:
            return {}
        return json.loads(content) if status == 200 else {}

    def wait_step(self, step: int) -> None:
        def reached() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"pod {self.index} ended with {self.process.returncode}\n{self.log()}")
            return int(self.progress().get("step", 0)) >= step

        try:
            wait_until(reached, f"step {step} of pod {self.index}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def wait(self, patience: float = PATIENCE) -> int:
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"pod {self.index} did not end\n{self.log()}") from None

    def log(self) -> str:
        path = self.scratch / "out.log"
        return path.read_text(errors="replace")[-6000:]

    def words(self) -> LastWords:
        return LastWords.model_validate_json((self.scratch / "termination").read_bytes())

    def ranks(self) -> dict[int, int]:
        """Pids by rank."""
        return {
            int(p.name.removeprefix("beat-")): int(p.read_text()) for p in (self.scratch / "channel").glob("beat-*")
        }

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """The pod with all it holds, as a node's loss would."""
        if self.process.poll() is None:
            for pid in self.ranks().values():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process.kill()
            self.process.wait()


@dataclass
class Gang:
    pods: list[Pod] = field(default_factory=list)

    def wait(self) -> list[int]:
        return [pod.wait() for pod in self.pods]

    def kill(self) -> None:
        for pod in self.pods:
            pod.kill()


def start(
    folder: Path,
    wanted: RunConfig,
    *,
    nodes: int = 1,
    env: dict[str, str] | None = None,
    python: str = sys.executable,
) -> Gang:
    """`nodes` pods of one attempt. Each has its own scratch below `folder`. `python`: the interpreter, or `warm`'s."""
    ports = free_ports(nodes + 1)
    final = wanted.model_copy(
        update={"nodes": nodes, "master_address": "127.0.0.1", "peers": [f"127.0.0.1:{p}" for p in ports[:nodes]]}
    )
    gang = Gang()
    for index in range(nodes):
        scratch = folder / f"attempt-{wanted.attempt}-pod-{index}"
        scratch.mkdir(parents=True)
        (scratch / "run.json").write_text(final.model_dump_json(by_alias=True, exclude_none=True))
        (scratch / "token").write_text(TOKEN)
        variables = {
            **os.environ,
            rc.CONFIG_ENV: str(scratch / "run.json"),
            rc.SCRATCH_DIR_ENV: str(scratch),
            rc.TOKEN_ENV_PATH: str(scratch / "token"),
            rc.TERMINATION_LOG_ENV: str(scratch / "termination"),
            rc.INDEX_ENV: str(index),
            "FINETUNE_PORT": str(ports[index]),
            "FINETUNE_RENDEZVOUS_PORT": str(ports[-1]),
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            **(env or {}),
        }
        with (scratch / "out.log").open("wb") as out:
            process = subprocess.Popen(
                [python, "-m", "finetune_trainer", "train"], env=variables, stdout=out, stderr=out
            )
        gang.pods.append(Pod(index, ports[index], scratch, process))
    return gang


def manifests(wanted: RunConfig) -> dict[str, CheckpointManifest]:
    """Committed checkpoints by name."""
    folder = Path(wanted.checkpoints_uri.removeprefix("file://"))
    found = sorted(folder.glob("step-*/MANIFEST.json"))
    return {path.parent.name: CheckpointManifest.model_validate_json(path.read_bytes()) for path in found}
