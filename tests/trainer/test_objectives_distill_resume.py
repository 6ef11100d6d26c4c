"""Distillation: exact resume, the same from one rank and from two, whole and sharded; the student comes nearer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.ranks import Results, assert_losses_near, assert_near, assert_resumed, lines

RANKS = {"script": "exact_distill.py", "ranks": 2}
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]


@pytest.mark.parametrize("run", ["lora", "written"])
def test_a_stopped_run_goes_on_bit_for_bit(results: Results, run: str) -> None:
    assert_resumed(results, run)
    assert results[f"{run}-whole-1"]["total"] == 10


def test_another_world_size_learns_the_same(results: Results) -> None:
    assert_near(results, "shrink", "full-whole-1")


def test_a_sharded_student_learns_the_same(results: Results) -> None:
    assert_losses_near(results["fsdp-whole-1"]["losses"], results["full-whole-1"]["losses"])


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
