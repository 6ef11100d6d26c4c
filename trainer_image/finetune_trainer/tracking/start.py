"""The launcher's side of tracking: starts one process for each tracker that is asked for, and lets go of it in time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from finetune_api.runconfig import RunConfig
from finetune_api.running import SecretRef
from finetune_trainer.common import log
from finetune_trainer.common.clock import monotonic
from finetune_trainer.common.config import secrets_dir

METRICS_FILE = "metrics.jsonl"
SECRET_KEYS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "WANDB_API_KEY")
"""What is taken from a tracker's Secret, into the environment of its process and of no other."""


class Trackers:
    """Of the pod of index 0. Nothing here raises, or waits longer than it is told to."""

    def __init__(self, config: RunConfig, scratch: Path) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        tracking = config.spec.tracking
        if tracking is None:
            return
        for kind, block in (("mlflow", tracking.mlflow), ("wandb", tracking.wandb)):
            if block is None:
                continue
            try:
                self._processes[kind] = subprocess.Popen(
                    [sys.executable, "-m", "finetune_trainer.tracking", kind],
                    stdin=subprocess.PIPE,
                    env=environment(os.environ, block.secret_ref, scratch),
                    start_new_session=True,
                )
            except OSError as error:
                log.warning("no tracking in this attempt", tracker=kind, cause=str(error))

    def end(self, code: int, *, seconds: float) -> None:
        """Tells them the attempt's exit code and waits at most so long for what they still have to send."""
        deadline = monotonic() + seconds
        for process in self._processes.values():
            try:
                assert process.stdin
                process.stdin.write(f"{code}\n".encode())
                process.stdin.close()
            except OSError:
                continue
        for kind, process in self._processes.items():
            try:
                process.wait(max(0.0, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("the tracker was not done in time", tracker=kind, seconds=round(seconds, 1))
                process.kill()
                process.wait()
        self._processes.clear()


def environment(base: Mapping[str, str], ref: SecretRef | None, scratch: Path) -> dict[str, str]:
    """Of a tracker's process: the Secret's values, few retries, and all files on the scratch volume."""
    folder = str(scratch / "tracking")
    found = {key: value for key, value in base.items() if key not in SECRET_KEYS} | {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
        "WANDB_DIR": folder,
        "WANDB_CACHE_DIR": folder,
        "WANDB_CONFIG_DIR": folder,
        "WANDB_DATA_DIR": folder,
        "OMP_NUM_THREADS": "1",
    }
    if ref is None:
        return found
    for key in SECRET_KEYS:
        try:
            found[key] = (secrets_dir() / ref.name / key).read_text().strip()
        except OSError:
            continue
    return found
