"""All of the benchmark works against a real API server, and its counts are within the thresholds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import sandbox
from bench.lab import BINARIES
from bench.scenarios import SCENARIOS

REPO = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FINETUNE_")}
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)


def test_help_has_examples_and_names_every_scenario() -> None:
    answer = bench("--help")
    assert answer.returncode == 0
    assert "examples:" in answer.stdout
    assert all(name in answer.stdout for name in SCENARIOS)


def test_an_unknown_scenario_is_refused_in_words() -> None:
    answer = bench("burst-12")
    assert answer.returncode == 2
    assert answer.stderr.startswith("no such scenario: burst-12; there are reaction, ")


@pytest.mark.apiserver
@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", ["quick-queued", "quick-pods", "quick-rollouts", "quick-held"])
def test_a_quick_run_measures_everything_and_stays_within_the_counts(
    scenario: str, need: Callable[[str], Path]
) -> None:
    for binary in BINARIES:
        need(binary)
    if reason := sandbox.why_not():
        pytest.skip(reason)
    answer = bench("--quick", scenario)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert '"complaints": {}' in answer.stdout
