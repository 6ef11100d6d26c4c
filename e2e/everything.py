"""`make test`: fast things first, then the programs, then the real cluster; at the end what ran and what did not.

A stage that the machine does not allow is named with the reason. The first stage that fails ends the run. What is
marked nightly (docs/design/test-time.md) is counted and left out; `make nightly` leaves nothing out.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|error|errors|deselected)\b")
_LEFT = re.compile(r"left to .make nightly.: (\d+) tests")
_PYTEST = (sys.executable, "-m", "pytest", "-q", "--durations=10")
_BY_FILE = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
"""A file stays with one worker: its tests may share ports, devices or an API server."""
_BRIEF = "e2e/scenarios/test_story.py::test_the_story_holds[brief]"
"""The whole story has all of it."""
_BINARIES = (
    "etcd",
    "kube-apiserver",
    "kubectl",
    "kube-controller-manager",
    "kube-scheduler",
    "kwok",
    "helm",
    "versitygw",
    "traefik",
)


@dataclass
class Stage:
    name: str
    command: tuple[str, ...]
    prevented: Callable[[], str | None] = lambda: None
    """Why this machine cannot run it; None when it can."""
    counts: dict[str, int] = field(default_factory=dict)
    left: int = 0
    """Tests of any stage that it left to `make nightly`, those of the other stages among them."""
    seconds: float = 0.0
    note: str = ""


def needs_root() -> str | None:
    """The real cluster needs root on Linux, or a Docker engine."""
    from e2e.cluster import kind

    if os.geteuid() == 0 or kind.engine_answers():
        return None
    return "the real cluster needs root, or a Docker engine that answers"


def stages(*, nightly: bool = False) -> list[Stage]:
    later = "slow or programs or apiserver or nightly"
    still = "" if nightly else " and not nightly"
    told = ("--deselect", _BRIEF) if nightly else ()
    return [
        Stage("style, types, layers", ("make", "--no-print-directory", "lint")),
        Stage("generated files", ("make", "--no-print-directory", "verify")),
        Stage("unit tests", (*_PYTEST, "tests", "-n", "2", "-m", f"not ({later}) and not cluster")),
        Stage("pinned programs", (sys.executable, "-m", "e2e.tools", *_BINARIES)),
        Stage(
            "slow tests, and with programs",
            (*_PYTEST, "tests", *_BY_FILE, "-m", f"({later}) and not cluster{still}"),
        ),
        Stage("real cluster", (sys.executable, "-m", "e2e.cluster", "up"), needs_root),
        Stage(
            "end to end",
            (*_PYTEST, "-s", "-p", "no:randomly", "-m", f"cluster{still}", *told, "tests", "e2e/scenarios"),
            needs_root,
        ),
    ]


def run(stage: Stage) -> bool:
    """Stream the stage's output, and count what pytest closes with."""
    print(f"\n=== {stage.name}: {' '.join(stage.command)}", flush=True)
    began = time.monotonic()
    with subprocess.Popen(
        stage.command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        last = ""
        for text in process.stdout or ():
            sys.stdout.write(text)
            sys.stdout.flush()
            last = text if _COUNTS.search(text) else last
            if found := _LEFT.search(text):
                stage.left = int(found[1])
    for number, word in _COUNTS.findall(last):
        stage.counts[word] = stage.counts.get(word, 0) + int(number)
    stage.seconds = time.monotonic() - began
    return process.returncode == 0


def summary(done: list[Stage]) -> None:
    print("\nstage                        result")
    for stage in done:
        told = ", ".join(f"{n} {word}" for word, n in stage.counts.items() if word != "deselected")
        print(f"{stage.name:28} {stage.note or f'{stage.seconds:6.0f} s  {told}'}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.everything", description=__doc__)
    parser.add_argument("--nightly", action="store_true", help="every cell of every matrix, and tests at length")
    wanted = parser.parse_args()
    done: list[Stage] = []
    failed = False
    for stage in stages(nightly=wanted.nightly):
        done.append(stage)
        reason = stage.prevented()
        if reason is not None:
            stage.note = f"skipped: {reason}"
            continue
        if not run(stage):
            stage.note = f"FAILED after {stage.seconds:.0f} s"
            failed = True
            break
    summary(done)
    totals = {word: sum(stage.counts.get(word, 0) for stage in done) for word in ("passed", "failed", "skipped")}
    errors = sum(stage.counts.get("error", 0) + stage.counts.get("errors", 0) for stage in done)
    broken = totals["failed"] + errors or int(failed)
    print(f"\n{totals['passed']} passed, {broken} failed, {totals['skipped']} skipped")
    if left := max(stage.left for stage in done):
        print(f"{left} further cells of matrices and tests at length are left to `make nightly`")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
