"""`make test`: fast things first, then the programs, then the real cluster; at the end what ran and what did not.

A stage that the machine does not allow is named with the reason. The first stage that fails ends the run. The slow
tests run at the lowest priority beside the cluster, which mostly waits; what they print is shown when both are done.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

REPO = Path(__file__).resolve().parents[1]
_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|error|errors|deselected)\b")
_PYTEST = (sys.executable, "-m", "pytest", "-q", "--durations=10")
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
    beside: bool = False
    """Whether it runs beside the stages after it."""
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""

    def heading(self) -> str:
        return f"\n=== {self.name}: {' '.join(self.command)}"

    def count(self, text: str) -> None:
        """From the line that pytest closes with, the last that has counts."""
        lines = [line for line in text.splitlines() if _COUNTS.search(line)]
        for number, word in _COUNTS.findall(lines[-1]) if lines else ():
            self.counts[word] = self.counts.get(word, 0) + int(number)

    def ended(self, began: float, code: int) -> bool:
        self.seconds = time.monotonic() - began
        if code:
            self.note = f"FAILED after {self.seconds:.0f} s"
        return code == 0


class Beside:
    """A stage under way at the lowest priority, its output kept."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self._began = stage, time.monotonic()
        self._output: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed by stop
        command = ("nice", "-n", "19", *stage.command)
        # A group of its own, so that it can be stopped with the workers it started.
        self._process = subprocess.Popen(
            command, cwd=REPO, stdout=self._output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, process_group=0
        )
        print(f"{stage.heading()}\n(beside what follows)", flush=True)

    def finish(self) -> bool:
        """Waits for it and shows what it printed."""
        if self._process.poll() is None:
            print(f"\n=== waiting for {self.stage.name}", flush=True)
        good = self.stage.ended(self._began, self._process.wait())
        self._output.seek(0)
        text = self._output.read()
        self.stage.count(text)
        print(f"{self.stage.heading()}\n{text}", flush=True)
        return good

    def stop(self) -> None:
        """At once, and its children; of no effect when it has ended."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._output.close()


def needs_root() -> str | None:
    """The real cluster needs root on Linux, or a Docker engine."""
    from e2e.cluster import kind

    if os.geteuid() == 0 or kind.engine_answers():
        return None
    return "the real cluster needs root, or a Docker engine that answers"


def stages() -> list[Stage]:
    later = "slow or programs or apiserver"
    return [
        Stage("style, types, layers", ("make", "--no-print-directory", "lint")),
        Stage("generated files", ("make", "--no-print-directory", "verify")),
        Stage("unit tests", (*_PYTEST, "tests", "-n", "2", "-m", f"not ({later}) and not cluster")),
        Stage("pinned programs", (sys.executable, "-m", "e2e.tools", *_BINARIES)),
        # A file stays with one worker: its tests may share ports, devices or an API server.
        Stage(
            "slow tests, and with programs",
            (*_PYTEST, "tests", "-n", "2", "--dist", "loadfile", "-m", f"({later}) and not cluster"),
            beside=True,
        ),
        Stage("real cluster", (sys.executable, "-m", "e2e.cluster", "up"), needs_root),
        Stage(
            "end to end",
            (*_PYTEST, "-s", "-p", "no:randomly", "-m", "cluster", "tests", "e2e/scenarios"),
            needs_root,
        ),
    ]


def run(stage: Stage) -> bool:
    """Streams the stage's output, and counts what pytest closes with."""
    print(stage.heading(), flush=True)
    began, last = time.monotonic(), ""
    with subprocess.Popen(
        stage.command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for text in process.stdout or ():
            sys.stdout.write(text)
            sys.stdout.flush()
            last = text if _COUNTS.search(text) else last
    stage.count(last)
    return stage.ended(began, process.returncode)


def run_all(planned: list[Stage]) -> list[Stage]:
    """Those that were begun, each with its outcome."""
    done: list[Stage] = []
    aside: list[Beside] = []
    try:
        for stage in planned:
            done.append(stage)
            reason = stage.prevented()
            if reason is not None:
                stage.note = f"skipped: {reason}"
            elif stage.beside:
                aside.append(Beside(stage))
            elif not run(stage):
                for other in aside:
                    other.stage.note = "stopped: another stage failed"
                return done
        for other in aside:
            other.finish()
    finally:
        for other in aside:
            other.stop()
    return done


def summary(done: list[Stage]) -> None:
    print("\nstage                          result")
    for stage in done:
        told = ", ".join(f"{n} {word}" for word, n in stage.counts.items() if word != "deselected")
        print(f"{stage.name:30} {stage.note or f'{stage.seconds:6.0f} s  {told}'}")


def main() -> int:
    argparse.ArgumentParser(prog="python -m e2e.everything", description=__doc__).parse_args()
    done = run_all(stages())
    summary(done)
    totals = {word: sum(stage.counts.get(word, 0) for stage in done) for word in ("passed", "failed", "skipped")}
    errors = sum(stage.counts.get("error", 0) + stage.counts.get("errors", 0) for stage in done)
    failed = any(stage.note.startswith("FAILED") for stage in done)
    broken = totals["failed"] + errors or int(failed)
    print(f"\n{totals['passed']} passed, {broken} failed, {totals['skipped']} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
