"""Pods of a custom trainer as local processes: the zipapp under a Python without site-packages, the storage container
beside it, a file:// store, loopback only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.ports import free_ports
from finetune_api import runconfig as rc
from finetune_api.runconfig import RunConfig
from finetune_trainer.custom import zipapp
from tests.trainer import runs

STARTED: list[subprocess.Popen[bytes]] = []


def spec(model: Path, data: Path, command: list[str], **changes: Any) -> dict[str, Any]:
    return {
        "model": {"uri": f"file://{model}"},
        "data": {"train": [{"uri": f"file://{data}"}]},
        "trainer": {"type": "Custom", "image": "registry/own:1", "custom": {"command": command}},
        "resources": {"gpusPerNode": 0},
        "checkpoint": {"interval": "1h"},
        **changes,
    }


@dataclass
class Custom(runs.Pod):
    storage: subprocess.Popen[bytes]

    def wait(self, patience: float = runs.PATIENCE) -> int:
        """As the kubelet: the sidecar is told to go when the launcher has ended."""
        code = super().wait(patience)
        self.storage.terminate()
        self.storage.wait(30)
        return code

    def committed(self) -> int:
        path = self.scratch / "channel" / "committed.json"
        return int(json.loads(path.read_text())["step"]) if path.exists() else 0


def start(folder: Path, wanted: RunConfig, *, nodes: int = 1, env: dict[str, str] | None = None) -> list[Custom]:
    """`nodes` pods of one attempt, each with a scratch of its own below `folder`."""
    ports = free_ports(nodes + 1)
    final = wanted.model_copy(
        update={"nodes": nodes, "master_address": "127.0.0.1", "peers": [f"127.0.0.1:{p}" for p in ports[:nodes]]}
    )
    pods = []
    for index in range(nodes):
        scratch = folder / f"attempt-{wanted.attempt}-pod-{index}"
        launcher = zipapp.write(scratch / "bin" / "launcher.pyz")
        (scratch / "run.json").write_text(final.model_dump_json(by_alias=True, exclude_none=True))
        (scratch / "token").write_text(runs.TOKEN)
        common = {
            rc.CONFIG_ENV: str(scratch / "run.json"),
            rc.SCRATCH_DIR_ENV: str(scratch),
            rc.INDEX_ENV: str(index),
        }
        own = {
            rc.TOKEN_ENV_PATH: str(scratch / "token"),
            rc.TERMINATION_LOG_ENV: str(scratch / "termination"),
            "FINETUNE_PORT": str(ports[index]),
            "FINETUNE_RENDEZVOUS_PORT": str(ports[-1]),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        bare = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        paths = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        with (scratch / "out.log").open("wb") as out:
            storage = subprocess.Popen(
                [sys.executable, "-m", "finetune_trainer", "accompany"],
                env={**os.environ, **common, **paths},
                stdout=out,
                stderr=out,
            )
            process = subprocess.Popen(
                [sys.executable, "-S", str(launcher)],
                env={**bare, **common, **own, **(env or {})},
                stdout=out,
                stderr=out,
            )
        STARTED.extend((storage, process))
        pods.append(Custom(index, ports[index], scratch, process, storage))
    return pods


def sweep() -> None:
    """Whatever a failed test has left."""
    for process in STARTED:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    STARTED.clear()
