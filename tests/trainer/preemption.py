"""Lives of one run that are ended by SIGTERM, and what must hold after each of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from finetune_api.runconfig import RunConfig
from finetune_trainer.checkpoint.fences import list_fences
from finetune_trainer.checkpoint.find import newest_valid
from finetune_trainer.common.stores import open_checkpoints, open_run
from tests.trainer import runs, tiny
from tests.trainer.slow import FAULTS_ENV, SLOW_ENV
from tests.trainer.warm import Template

STEPS = 16
SKEWS = (0.0, 0.4, 1.0)
PHASES = {"fetch": 0.3, "import": 0.5, "load": 0.4, "micro": 0.03, "evaluate": 0.15, "save": 0.3}
PATIENCE = 120.0
"""A life takes about 8 s; one that takes this long hangs."""
SPEC: dict[str, Any] = {
    "method": {"type": "LoRA", "lora": {"rank": 4, "alpha": 8, "dropout": "0.1"}},
    "training": {"maxSteps": STEPS, "microBatchSize": 2, "learningRate": "1e-3"},
    "checkpoint": {"intervalSteps": 3},
}


@dataclass
class Run:
    """One run directory, worked on by one attempt after another."""

    folder: Path
    template: Template
    data: tiny.Tiny
    nodes: int = 1
    name: str = "run"
    slow: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    attempt: int = 0
    gang: runs.Gang = field(default_factory=runs.Gang)

    def __post_init__(self) -> None:
        self.config = self._config()

    def _config(self) -> RunConfig:
        document = runs.spec(self.data.model, self.data.data, **SPEC)
        for block, value in self.changes.items():
            document[block] = {**document.get(block, {}), **value}
        fields = {"attempt": max(self.attempt, 1), **self.fields}
        return runs.config(self.folder / "store", document, run_key=self.name, **fields)

    def begin(self) -> runs.Gang:
        self.attempt += 1
        self.config = self._config()
        environment = {**self.template.environment, SLOW_ENV: json.dumps(self.slow)} | {
            FAULTS_ENV: json.dumps(self.faults)
        }
        self.gang = runs.start(
            self.folder / self.name, self.config, nodes=self.nodes, env=environment, python=str(self.template.python)
        )
        for pod in range(self.nodes):
            runs.wait_until(lambda pod=pod: "born" in self.phases(pod), "a launcher", PATIENCE)
        return self.gang

    def phases(self, pod: int = 0) -> list[str]:
        """Those that pod's processes have entered in this life."""
        path = self.gang.pods[pod].scratch / "phases"
        return path.read_text().split() if path.exists() else []

    def wait_phase(self, phase: str, times: int = 1) -> None:
        def entered() -> bool:
            ended = [pod for pod in self.gang.pods if pod.process.poll() is not None]
            assert not ended, f"ended before {phase}: {ended[0].log()}"
            return self.phases().count(phase) >= times

        runs.wait_until(entered, f"phase {phase}", PATIENCE)

    def trained(self) -> int:
        """The last step that rank 0 of this life finished; the one it began with when it finished none."""
        there = (self.gang.pods[0].scratch / "attempt" / "metrics.jsonl").exists()
        steps = [line["step"] for line in self.metrics()] if there else []
        return max(steps, default=self.start())

    def start(self) -> int:
        fence = [f for f in list_fences(open_run(self.config)) if f.attempt == self.attempt]
        return fence[0].resume_step if fence else 0

    def saved(self) -> int:
        """The step of the newest whole checkpoint, its digests verified."""
        fences = list_fences(open_run(self.config))
        found = newest_valid(open_checkpoints(self.config), fences, self.folder / self.name / f"look-{self.attempt}")
        return found.manifest.step if found else 0

    def metrics(self) -> list[dict[str, Any]]:
        """One entry for each step of this life."""
        lines = (self.gang.pods[0].scratch / "attempt" / "metrics.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if "stepSeconds" in line]

    def digest(self) -> str:
        return max(runs.manifests(self.config).values(), key=lambda m: m.step).trainable_digest

    def end(self, *, lost: int | None = 0) -> int:
        """Waits for the end of this life and holds it to the contract; returns the exit code of all pods.

        `lost`: the steps that may be lost; None says nothing about it.
        """
        codes = [pod.wait(PATIENCE) for pod in self.gang.pods]
        logs = "\n".join(pod.log() for pod in self.gang.pods)
        assert set(codes) in ({0}, {85}, {86}), f"{codes}\n{logs}"
        words = [pod.words() for pod in self.gang.pods]
        assert [word.exit_code for word in words] == codes
        trained, saved = self.trained(), self.saved()
        if codes[0] == 85:
            assert {word.step for word in words} == {trained} == {saved}, f"{words}\n{logs}"
        if codes[0] == 0:
            assert saved == STEPS
        if lost is not None:
            assert trained - saved == lost, f"trained {trained}, saved {saved}\n{logs}"
        assert "Traceback" not in logs, logs
        return codes[0]


def hit(run: Run, targets: list[int], skew: float) -> None:
    """SIGTERM to these pods, `skew` seconds after one another."""
    for number, target in enumerate(targets):
        if number:
            pause(skew)
        if run.gang.pods[target].process.poll() is None:
            run.gang.pods[target].terminate()


def pause(seconds: float) -> None:
    """Skew and random moments are the point here, so the time is real."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.005)


def targets(rng: Random, nodes: int) -> list[int]:
    """All pods in some order, or one of them."""
    order = list(range(nodes))
    rng.shuffle(order)
    return order if rng.random() < 0.5 else order[:1]


def lives(make: Callable[[str], Run], count: int, rng: Random, whole_seconds: float, digest: str) -> dict[str, int]:
    """`count` random stops, over as many runs as they need; each run must end as the undisturbed one. How often each
    exit code came."""
    seen: dict[str, int] = {}
    stops, number = 0, 0
    while stops < count:
        number += 1
        run = make(f"random-{number}")
        while True:
            run.begin()
            try:
                if stops < count:
                    pause(rng.uniform(0.0, whole_seconds))
                    stops += 1
                    for _ in range(rng.choice((1, 1, 3))):
                        hit(run, targets(rng, run.nodes), rng.choice(SKEWS))
                code = run.end()
            finally:
                run.gang.kill()
            seen[str(code)] = seen.get(str(code), 0) + 1
            if code == 0:
                break
        assert run.digest() == digest, f"run {run.name} ended with other weights after {run.attempt} lives"
    return seen


Make = Callable[..., Run]
"""The fixture `make`: a new Run, killed at the end of its test."""
