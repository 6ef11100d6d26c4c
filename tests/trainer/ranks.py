"""Starts the ranks of a script of this folder as processes of their own, and reads what rank 0 wrote down."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Results = dict[str, dict[str, Any]]
"""By run and attempt."""


PATIENCE = 800.0


def run_ranks(script: str, folder: Path, *, ranks: int, shown: str | None = None, result: str = "results.json") -> Any:
    """The JSON that rank 0 wrote to `folder/<result>`. The first rank that fails ends them all; ranks that do not end
    write down where every thread stands. `shown`: a pattern of the runs that are wanted, all without it.
    """
    path = os.pathsep.join([str(Path(__file__).parents[2]), *(p for p in sys.path if p)])
    wanted = {} if shown is None else {"SHOWN": shown}
    processes = []
    for rank in range(ranks):
        with (folder / f"rank-{rank}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-X", "faulthandler", str(Path(__file__).with_name(script)), str(folder)],
                    env={**os.environ, "RANK": str(rank), "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo", **wanted},
                    stdout=log,
                    stderr=log,
                )
            )
    try:
        deadline = time.monotonic() + PATIENCE
        while (codes := [process.poll() for process in processes]) != [0] * ranks:
            if any(codes) or time.monotonic() > deadline:
                break
            time.sleep(0.05)
    finally:
        for process in processes:
            # faulthandler's answer is the stacks of all threads.
            process.send_signal(signal.SIGABRT)
            process.wait()
    logs = "".join(f"\n--- rank {rank}\n{(folder / f'rank-{rank}.log').read_text()[-8000:]}" for rank in range(ranks))
    assert codes == [0] * ranks, f"exit codes {codes} (None: had not ended){logs}"
    return json.loads((folder / result).read_text())


def joined(results: Results, parts: list[str], key: str) -> dict[str, float]:
    """By step, over the attempts of one run; no step was trained twice."""
    steps: dict[str, float] = {}
    for part in parts:
        assert not steps.keys() & results[part][key].keys(), "a step was trained twice"
        steps |= results[part][key]
    return steps


def lines(folder: Path, run: str, attempt: int = 1) -> list[dict[str, Any]]:
    """What rank 0 of an attempt wrote down, by step."""
    path = folder / "scratch" / f"{run}-{attempt}-0" / "attempt" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_exact(results: Results, whole: str, parts: list[str]) -> None:
    """`parts`, the attempts of one run, did bit for bit what `whole` did undisturbed; the last one reached the end."""
    reference, last = results[whole], results[parts[-1]]
    assert [results[part]["code"] for part in [*parts, whole]] == [85] * (len(parts) - 1) + [0, 0]
    assert last["step"] == reference["step"] == last["total"]
    for what in ("digest", "optimizer", "tokens"):
        assert last[what] == reference[what], what
    for what in ("losses", "rates", "norms"):
        assert joined(results, parts, what) == reference[what], what


def assert_resumed(results: Results, run: str) -> None:
    """Of what `exact.Ranks.resumed` trained."""
    assert_exact(results, f"{run}-whole-1", [f"{run}-middle-1", f"{run}-middle-2"])


def assert_near(results: Results, run: str, whole: str, tolerance: float = 1e-5) -> None:
    """`run`, whose second attempt had another world size, learned what `whole` did: losses and parameters."""
    from safetensors.torch import load_file

    reference, last = results[whole], results[f"{run}-2"]
    assert_losses_near(joined(results, [f"{run}-1", f"{run}-2"], "losses"), reference["losses"], tolerance)
    ours, theirs = (load_file(Path(r["folder"]) / "trainable.safetensors") for r in (last, reference))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < tolerance


def assert_losses_near(ours: dict[str, float], theirs: dict[str, float], tolerance: float = 1e-5) -> None:
    assert ours.keys() == theirs.keys()
    assert all(math.isfinite(loss) for loss in ours.values())
    assert max(abs(ours[step] - theirs[step]) for step in theirs) < tolerance
