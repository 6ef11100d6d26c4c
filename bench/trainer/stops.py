"""What a checkpoint costs a run, and how long a notice takes: the real launcher, a file:// store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.trainer.ours import run_config
from bench.trainer.task import Task
from e2e.ports import free_ports
from finetune_api import layout
from finetune_api import runconfig as rc
from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import CheckpointManifest

PATIENCE = 300.0


def stop(folder: Path, task: Task) -> dict[str, Any]:
    """A run with a checkpoint every 5 steps gets SIGTERM after the second one."""
    config = run_config(folder, replace(task, steps=100_000), f"stop-{task.method}", intervalSteps=5)
    scratch = folder / "scratch" / config.name
    scratch.mkdir(parents=True)
    told = scratch / "config.json"
    told.write_text(config.model_dump_json(by_alias=True))
    environment = {
        **os.environ,
        rc.SCRATCH_DIR_ENV: str(scratch),
        rc.TOKEN_ENV_PATH: str(scratch / "no-token"),
        "FINETUNE_TERMINATION_LOG": str(scratch / "termination"),
        **dict(zip(("FINETUNE_PORT", "FINETUNE_RENDEZVOUS_PORT"), map(str, free_ports(2)), strict=True)),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    command = [sys.executable, "-m", "finetune_trainer", "train", "--config", str(told)]
    with (scratch / "log").open("wb") as log:
        launcher = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait(lambda: len(manifests(config.checkpoints_uri)) >= 2 or launcher.poll() is not None)
        before = set(manifests(config.checkpoints_uri))
        began = time.monotonic()
        launcher.send_signal(signal.SIGTERM)
        wait(lambda: set(manifests(config.checkpoints_uri)) - before or launcher.poll() is not None)
        committed = time.monotonic() - began
        code = launcher.wait(PATIENCE)
    finally:
        launcher.kill()
        launcher.wait()
    if code != ExitCode.STOPPED:
        raise RuntimeError(f"the launcher ended with {code}:\n{(scratch / 'log').read_text()[-3000:]}")
    said = [json.loads(line) for line in (scratch / "log").read_text().splitlines() if "checkpoint committed" in line]
    return {
        "checkpoint stall seconds": max(float(line["stallSeconds"]) for line in said),
        "checkpoint seconds": max(float(line["seconds"]) for line in said),
        "checkpoint bytes": int(said[-1]["bytes"]),
        "SIGTERM to committed seconds": round(committed, 3),
    }


def manifests(uri: str) -> dict[str, CheckpointManifest]:
    root = Path(uri.removeprefix("file://"))
    return {
        path.parent.name: CheckpointManifest.model_validate_json(path.read_bytes())
        for path in root.glob(f"*/{layout.MANIFEST}")
    }


def wait(over: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not over():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {PATIENCE:.0f} s in vain")
        time.sleep(0.01)
