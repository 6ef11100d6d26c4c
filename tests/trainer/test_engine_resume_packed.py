"""Exact resume with packed rows; and a run that began before packing existed goes on unpacked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cells import cells
from tests.trainer.ranks import Results, assert_exact, assert_losses_near, assert_near

RANKS = {
    "script": "exact_packed.py",
    "ranks": 2,
    "shown": "(lora|chosen)-(whole|middle)|before(-whole)?|ordered-whole",
}
RESUMED = [
    ("lora-whole-1", ["lora-middle-1", "lora-middle-2"]),
    ("lora-whole-1", ["lora-epoch-1", "lora-epoch-2"]),
    ("full-whole-1", ["full-middle-1", "full-middle-2"]),
    ("fsdp-whole-1", ["fsdp-middle-1", "fsdp-middle-2"]),
    ("before-whole-1", ["before-1", "before-2"]),
    ("chosen-whole-1", ["chosen-middle-1", "chosen-middle-2"]),
    ("ordered-whole-1", ["ordered-middle-1", "ordered-middle-2"]),
]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def state(results: Results, run: str) -> dict[str, object]:
    document: dict[str, object] = json.loads((Path(results[run]["folder"]) / "state.json").read_text())
    return document


@pytest.mark.parametrize(("whole", "parts"), cells(RESUMED, [RESUMED[0], RESUMED[5]]))
def test_same_world_size_is_bit_exact(results: Results, whole: str, parts: list[str]) -> None:
    assert_exact(results, whole, parts)
    assert results[whole]["total"] == 10


@pytest.mark.nightly
@pytest.mark.parametrize("run", ["shrink", "grow"])
def test_another_world_size_learns_the_same(results: Results, run: str) -> None:
    assert_near(results, run, "lora-whole-1")


@pytest.mark.nightly
def test_sharded_parameters_learn_the_same(results: Results) -> None:
    assert_losses_near(results["fsdp-whole-1"]["losses"], results["full-whole-1"]["losses"])


def test_the_default_packs(results: Results) -> None:
    packed, unpacked = state(results, "lora-whole-1"), state(results, "before-whole-1")
    assert (packed["packed"], unpacked["packed"]) == (True, False)
    assert int(str(packed["rows"])) * 3 < int(str(unpacked["rows"]))


def test_a_run_that_began_unpacked_goes_on_so(results: Results) -> None:
    assert state(results, "before-2")["packed"] is False
    assert state(results, "before-2")["rows"] == state(results, "before-whole-1")["rows"]


def test_a_choice_of_records_is_made_anew_and_is_the_same(results: Results) -> None:
    """Weights, near duplicates and balance are not in the checkpoint: a resumed run works them out once more."""
    folder = Path(results["chosen-whole-1"]["folder"]).parents[1]
    told = json.loads((folder / "data-report.json").read_text())
    assert told["counts"]["near_duplicates"] > 5
    assert told["counts"]["duplicates"] == 5
    left = told["counts"]["records"] - told["counts"]["duplicates"] - told["counts"]["near_duplicates"]
    assert told["counts"]["train"] != left - told["counts"]["validation"]
    assert all(source["train"] for source in told["sources"])
    again = Path(results["chosen-middle-2"]["folder"]).parents[1] / "data-report.json"
    assert json.loads(again.read_text()) == told


def test_records_in_an_order_do_not_share_rows(results: Results) -> None:
    assert state(results, "ordered-whole-1")["packed"] is False
    folder = Path(results["ordered-whole-1"]["folder"]).parents[1]
    told = json.loads((folder / "data-report.json").read_text())
    assert told["curriculum"] == {"by": "Column", "column": "words", "epochs": 2, "order": "Ascending"}
    assert "data.curriculum" in told["packing"]["why"]


def test_waiting_for_data_is_written_down(results: Results) -> None:
    (metrics,) = Path(results["lora-whole-1"]["folder"]).parents[1].glob("attempts/1/metrics.jsonl")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    shares = [line["dataWaitPercent"] for line in lines if "loss" in line]
    assert len(shares) == 10
    assert all(0 <= share <= 100 for share in shares)
