"""FP16 resumes with its loss scale bit for bit, and a step that overflows is left out by all ranks; compiled layers
resume bit for bit too, and learn what plain ones learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.ranks import Results, joined, run_ranks

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    found: Results = run_ranks("exact_speed.py", tmp_path_factory.mktemp("speed"), ranks=2)
    return found


def metrics(results: Results, run: str, attempt: int) -> list[dict[str, Any]]:
    path = Path(results[f"{run}-{attempt}"]["folder"]).parents[1] / "attempts" / str(attempt) / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if "learningRate" in line]


@pytest.mark.parametrize("name", ["fp16", "fp16-fsdp", "overflow", "compiled", "compiled-fsdp"])
def test_it_resumes_bit_for_bit(results: Results, name: str) -> None:
    whole, parts = results[f"{name}-whole-1"], [f"{name}-middle-1", f"{name}-middle-2"]
    last = results[parts[-1]]
    assert [results[part]["code"] for part in parts] == [85, 0]
    assert last["step"] == whole["step"] == 10
    assert last["digest"] == whole["digest"]
    assert last["optimizer"] == whole["optimizer"]
    assert joined(results, parts, "losses") == whole["losses"]


def test_fp16_learns_what_fp32_learns(results: Results) -> None:
    found, wanted = results["fp16-whole-1"]["losses"], results["fp32-1"]["losses"]
    assert max(abs(found[step] - wanted[step]) for step in wanted) < 0.02
    assert found["10"] < found["1"]


# Compiled dropout draws other numbers than the plain one, of as many.
@pytest.mark.parametrize(("name", "near"), [("compiled", 0.05), ("compiled-fsdp", 1e-4)])
def test_compiled_layers_learn_what_plain_ones_learn(results: Results, name: str, near: float) -> None:
    found, wanted = results[f"{name}-whole-1"]["losses"], results[f"{name}-plain-1"]["losses"]
    assert max(abs(found[step] - wanted[step]) for step in wanted) < near
    assert found != wanted


def test_fp16_goes_on_with_another_number_of_processes(results: Results) -> None:
    found = joined(results, ["fp16-shrink-1", "fp16-shrink-2"], "losses")
    wanted = results["fp16-whole-1"]["losses"]
    assert found.keys() == wanted.keys()
    assert max(abs(found[step] - wanted[step]) for step in wanted) < 0.005


@pytest.mark.parametrize("run", ["overflow-whole", "overflow-fsdp"])
def test_overflowing_steps_are_left_out_and_seen(results: Results, run: str) -> None:
    lines = metrics(results, run, 1)
    skipped = [line["step"] for line in lines if line.get("skipped")]
    assert skipped[:2] == [1, 2]
    assert len(skipped) < len(lines)
    assert all("gradNorm" not in lines[step - 1] for step in skipped)
    scales = [line["lossScale"] for line in lines]
    assert scales == [2.0 ** (19 - sum(step < line["step"] for step in skipped)) for line in lines]
    losses = results[f"{run}-1"]["losses"]
    assert losses["10"] < losses["1"]


def test_the_scale_is_resumed(results: Results) -> None:
    whole, resumed = metrics(results, "overflow-whole", 1), metrics(results, "overflow-middle", 2)
    assert [line["lossScale"] for line in resumed] == [line["lossScale"] for line in whole][3:]
