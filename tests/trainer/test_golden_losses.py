"""Losses do not move: a change that is meant to leave training as it is must leave every loss of these runs as it is.

`golden_losses.json` was written by the code itself. On the kind of machine that wrote it (processor and torch version)
every digit must agree; elsewhere, kernels round otherwise and 1e-5 is allowed, far less than another order of the data,
another seed or another normalisation of the loss would make.

If a change means to move losses: FINETUNE_REWRITE_GOLDEN=1 pytest tests/trainer/test_golden_losses.py writes the file
anew, and the commit says why.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import pytest
import torch

from tests.trainer.ranks import run_ranks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
GOLDEN = Path(__file__).with_name("golden_losses.json")
ELSEWHERE = 1e-5


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{platform.machine()} {model}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    folder = tmp_path_factory.mktemp("golden")
    found: dict[str, list[float]] = run_ranks("golden.py", folder, ranks=2, result="losses.json")
    if os.environ.get("FINETUNE_REWRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps({"machine": machine(), "losses": found}, indent=1) + "\n")
    return found


@pytest.mark.parametrize("run", ["lora-1-rank", "lora-2-ranks", "full-1-rank", "full-2-ranks"])
def test_losses_do_not_move(losses: dict[str, list[float]], run: str) -> None:
    stored = json.loads(GOLDEN.read_text())
    expected, found = stored["losses"][run], losses[run]
    assert len(found) == len(expected) == 10
    if stored["machine"] == machine():
        assert found == expected
    assert found == pytest.approx(expected, rel=ELSEWHERE)


def test_the_stored_losses_fall(losses: dict[str, list[float]]) -> None:
    assert all(run[-1] < run[0] for run in losses.values())
