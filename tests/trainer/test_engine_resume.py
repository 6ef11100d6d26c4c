"""Exact resume: a run that was stopped and resumed must end where the undisturbed run ends, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer import runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("exact")
    ports = [str(port) for port in runs.free_ports(3)]
    path = os.pathsep.join([str(Path(__file__).parents[2]), *(p for p in sys.path if p)])
    processes = []
    for rank in range(2):
        with (folder / f"rank-{rank}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, str(Path(__file__).with_name("exact.py")), str(folder), *ports],
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
    logs = "".join((folder / f"rank-{rank}.log").read_text()[-5000:] for rank in range(2))
    assert codes == [0, 0], logs
    loaded: Results = json.loads((folder / "results.json").read_text())
    return loaded


@pytest.mark.parametrize(
    ("whole", "parts"),
    [
        ("lora2-whole-1", ["lora2-middle-1", "lora2-middle-2"]),
        ("lora2-whole-1", ["lora2-epoch-1", "lora2-epoch-2", "lora2-epoch-3"]),
        ("full2-whole-1", ["full2-middle-1", "full2-middle-2"]),
        ("lora1-whole-1", ["lora1-middle-1", "lora1-middle-2"]),
    ],
)
def test_same_world_size_is_bit_exact(results: Results, whole: str, parts: list[str]) -> None:
    reference, last = results[whole], results[parts[-1]]
    assert [results[part]["code"] for part in parts] == [85] * (len(parts) - 1) + [0]
    assert last["step"] == reference["step"] == 10
    assert last["tokens"] == reference["tokens"]
    assert last["digest"] == reference["digest"]
    assert last["optimizer"] == reference["optimizer"]
    for key in ("losses", "rates"):
        joined: dict[str, float] = {}
        for part in parts:
            assert not joined.keys() & results[part][key].keys(), "a step was trained twice"
            joined |= results[part][key]
        assert joined == reference[key]


def test_stops_at_the_asked_step(results: Results) -> None:
    assert [results[run]["step"] for run in ("lora2-middle-1", "lora2-epoch-1", "lora2-epoch-2")] == [4, 3, 6]


@pytest.mark.parametrize("run", ["shrink", "grow"])
def test_another_world_size_learns_the_same(results: Results, run: str) -> None:
    reference, last = results["lora2-whole-1"], results[f"{run}-2"]
    losses = results[f"{run}-1"]["losses"] | last["losses"]
    assert losses.keys() == reference["losses"].keys()
    assert max(abs(losses[step] - reference["losses"][step]) for step in losses) < 1e-5
    ours, theirs = (load_file(Path(r["folder"]) / "trainable.safetensors") for r in (last, reference))
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-5


def test_training_changes_the_weights(results: Results) -> None:
    digests = {results[run]["digest"] for run in ("lora2-whole-1", "lora2-middle-1", "full2-whole-1", "lora1-whole-1")}
    assert len(digests) == 4
    first, last = results["full2-whole-1"]["losses"]["1"], results["full2-whole-1"]["losses"]["10"]
    assert last < first
    assert torch.isfinite(torch.tensor(last))
