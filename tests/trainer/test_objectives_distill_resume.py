"""Distillation: exact resume, the same from one rank and from two, whole and sharded; the student comes nearer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.trainer.ranks import Results, joined, run_ranks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distill")


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    found: Results = run_ranks("exact_distill.py", folder, ranks=2, phases=2)
    return found


def lines(folder: Path, run: str) -> list[dict[str, Any]]:
    path = folder / "scratch" / f"{run}-1-0" / "attempt" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("run", ["lora", "written"])
def test_a_stopped_run_goes_on_bit_for_bit(results: Results, run: str) -> None:
    parts = [f"{run}-middle-1", f"{run}-middle-2"]
    reference, last = results[f"{run}-whole-1"], results[parts[-1]]
    assert [results[part]["code"] for part in parts] == [85, 0]
    assert last["step"] == reference["step"] == 10
    assert (last["digest"], last["optimizer"]) == (reference["digest"], reference["optimizer"])
    assert joined(results, parts, "losses") == reference["losses"]


def test_another_world_size_learns_the_same(results: Results) -> None:
    reference, last = results["full-whole-1"], results["shrink-2"]
    losses = results["shrink-1"]["losses"] | last["losses"]
    assert losses.keys() == reference["losses"].keys()
    assert max(abs(losses[step] - reference["losses"][step]) for step in losses) < 1e-5
    ours, theirs = (load_file(Path(r["folder"]) / "trainable.safetensors") for r in (last, reference))
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-5


def test_a_sharded_student_learns_the_same(results: Results) -> None:
    ours, theirs = results["fsdp-whole-1"]["losses"], results["full-whole-1"]["losses"]
    assert max(abs(ours[step] - theirs[step]) for step in theirs) < 1e-5


@pytest.mark.parametrize("run", ["full-whole", "lora-whole", "packed", "written-whole"])
def test_the_student_comes_nearer_to_its_teacher(results: Results, folder: Path, run: str) -> None:
    steps = [line for line in lines(folder, run) if "loss" in line]
    assert sum(line["divergence"] for line in steps[-3:]) < sum(line["divergence"] for line in steps[:3])
    assert all(line["targetLoss"] > 0 for line in steps)


def test_the_held_out_divergence_is_told_apart_from_the_records_own_loss(results: Results, folder: Path) -> None:
    found = [line for line in lines(folder, "lora-whole") if "evalLoss" in line][-1]
    mixed = 0.8 * found["evalDivergence"] + 0.2 * found["evalTargetLoss"]
    assert found["evalLoss"] == pytest.approx(mixed, rel=1e-6)
    assert results["lora-whole-1"]["looks"]
