"""`python -m bench.trainer`: see --help."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.report import machine
from bench.trainer import task as tasks
from bench.trainer.stops import stop
from bench.trainer.task import Task

REPORT = Path(__file__).with_name("RESULTS.md")
TARGET = 1.1
_HEAD = """\
# Training speed

Written by `python -m bench.trainer`; do not edit. Ours and TRL's `SFTTrainer` in turn, each a process with as
many threads as there are cores, on the same random Llama, records, batch, schedule and precision, without activation
checkpointing. Tokens/s counts tokens that are no padding; the ratio is the median over pairs.
"""
TASKS = (
    Task(),
    Task(precision="BF16"),
    Task(method="FullFineTune", learning_rate="2e-5"),
    Task(packing=True, batch=4, rows=512),
    Task(compiled=True),
)
_EXAMPLES = """\
examples:
  everything, each trainer three times in turn, a quarter of an hour on two cores; rewrites bench/trainer/RESULTS.md:
    python -m bench.trainer
  does all of it work, in a minute; writes nothing:
    python -m bench.trainer --quick
"""


def measure(who: str, folder: Path, task: Task) -> dict[str, Any]:
    command = [sys.executable, "-m", f"bench.trainer.{who}", str(folder), task.dump()]
    threads = {"OMP_NUM_THREADS": str(os.cpu_count())}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def compare(task: Task, repeat: int) -> dict[str, Any]:
    """Both in turn, so that what else the machine does falls on both."""
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="finetune-bench-") as name:
        folder = Path(name)
        tasks.write(folder, task)
        for _ in range(repeat):
            ours.append(measure("ours", folder, task))
            theirs.append(measure("theirs", folder, task))
        stops = stop(folder, task)
    rates = [[run["tokens"] / run["seconds"] for run in side] for side in (ours, theirs)]
    ratios = [a / b for a, b in zip(*rates, strict=True)]
    split: dict[str, float] = {}
    for run in ours:
        for part, seconds in run["split"].items():
            split[part] = split.get(part, 0.0) + 100 * seconds / run["seconds"] / repeat
    return {
        "tokens/s": statistics.median(rates[0]),
        "TRL tokens/s": statistics.median(rates[1]),
        "ratio": statistics.median(ratios),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "split": split,
        **stops,
    }


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _speeds(figures: dict[str, dict[str, Any]]) -> list[list[str]]:
    return [
        [
            title,
            f"{found['tokens/s']:,.0f}",
            f"{found['TRL tokens/s']:,.0f}",
            f"{found['ratio']:.2f} ({', '.join(f'{ratio:.2f}' for ratio in found['ratios'])})",
            f"≥ {TARGET} {'met' if found['ratio'] >= TARGET else '**missed**'}",
        ]
        for title, found in figures.items()
    ]


def _checkpoints(figures: dict[str, dict[str, Any]]) -> list[list[str]]:
    times = ("checkpoint stall seconds", "checkpoint seconds", "SIGTERM to committed seconds")
    return [
        [title, f"{found['checkpoint bytes'] / 1e6:.1f} MB", *(f"{1000 * found[key]:.0f} ms" for key in times)]
        for title, found in figures.items()
    ]


def page(figures: dict[str, dict[str, Any]], versions: str) -> str:
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    lines = [_HEAD, f"{machine()}, {now}. {versions}, Python {platform.python_version()}. CPU only.", ""]
    lines += _table(["task", "ours, tokens/s", "TRL, tokens/s", "ratio (each pair)", "target"], _speeds(figures))
    parts = list(next(iter(figures.values()))["split"])
    lines += ["", "Where a step of ours goes, in percent:", ""]
    lines += _table(
        ["task", *parts],
        [[title, *(f"{found['split'][part]:.1f}" for part in parts)] for title, found in figures.items()],
    )
    lines += ["", "A checkpoint, on a local disk:", ""]
    lines += _table(
        ["task", "size", "training stands still", "until committed", "SIGTERM to committed"], _checkpoints(figures)
    )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.trainer",
        description="Tokens per second beside TRL's SFTTrainer, where a step's time goes, and what checkpoints cost.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="tiny, once each, nothing written")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="pairs of runs per task (default 3)")
    arguments = parser.parse_args()
    try:
        versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft"))
    except PackageNotFoundError:
        print("TRL is not installed; run: uv sync --all-extras", file=sys.stderr)
        return 1
    chosen = TASKS
    if arguments.quick:
        chosen = tuple(replace(task, hidden=64, layers=1, rows=64, batch=4, steps=4, warm=1) for task in TASKS)
    figures = {}
    for task in chosen:
        print(f"== {task.title}", flush=True)
        figures[task.title] = compare(task, 1 if arguments.quick else arguments.repeat)
        print(json.dumps(figures[task.title], indent=2), flush=True)
    if not arguments.quick:
        REPORT.write_text(page(figures, versions))
    return 0


if __name__ == "__main__":
    sys.exit(main())
