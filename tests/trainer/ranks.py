"""Starts the ranks of a script of this folder as processes of their own, and reads what rank 0 wrote down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.trainer import runs

Results = dict[str, dict[str, Any]]
"""By run and attempt."""


def run_ranks(script: str, folder: Path, *, ranks: int, phases: int, result: str = "results.json") -> Any:
    """The JSON that rank 0 wrote to `folder/<result>`."""
    ports = [str(port) for port in runs.free_ports(phases)]
    path = os.pathsep.join([str(Path(__file__).parents[2]), *(p for p in sys.path if p)])
    processes = []
    for rank in range(ranks):
        with (folder / f"rank-{rank}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, str(Path(__file__).with_name(script)), str(folder), *ports],
                    env={**os.environ, "RANK": str(rank), "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo"},
                    stdout=log,
                    stderr=log,
                )
            )
    try:
        codes = [process.wait(800) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    logs = "".join((folder / f"rank-{rank}.log").read_text()[-5000:] for rank in range(ranks))
    assert codes == [0] * ranks, logs
    return json.loads((folder / result).read_text())


def joined(results: Results, parts: list[str], key: str) -> dict[str, float]:
    """By step, over the attempts of one run; no step was trained twice."""
    steps: dict[str, float] = {}
    for part in parts:
        assert not steps.keys() & results[part][key].keys(), "a step was trained twice"
        steps |= results[part][key]
    return steps
