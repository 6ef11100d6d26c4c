"""Exact resume: a run that was stopped and resumed must end where the undisturbed run ends, bit for bit."""

from __future__ import annotations

import pytest
import torch

from tests.trainer.exact import OPTIMIZERS
from tests.trainer.ranks import Results, assert_exact, assert_near

RANKS = {"script": "exact.py", "ranks": 2}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("whole", "parts"),
    [
        ("lora2-whole-1", ["lora2-middle-1", "lora2-middle-2"]),
        ("lora2-whole-1", ["lora2-epoch-1", "lora2-epoch-2", "lora2-epoch-3"]),
        ("full2-whole-1", ["full2-middle-1", "full2-middle-2"]),
        ("lora1-whole-1", ["lora1-middle-1", "lora1-middle-2"]),
        *(
            (f"{run}-whole-1", [f"{run}-middle-1", f"{run}-middle-2"])
            for run in (*OPTIMIZERS, "Lion-FSDP", "noise", "dropout")
        ),
    ],
)
def test_same_world_size_is_bit_exact(results: Results, whole: str, parts: list[str]) -> None:
    assert_exact(results, whole, parts)
    assert results[whole]["total"] == 10


def test_noise_is_the_same_however_a_batch_is_cut(results: Results) -> None:
    whole, other, without, dropped = (
        list(results[f"{run}-1"]["losses"].values())
        for run in ("noise-whole", "noise-micro", "full2-whole", "dropout-whole")
    )
    assert other == pytest.approx(whole, abs=1e-5)
    assert whole[0] != pytest.approx(without[0], abs=1e-5)
    assert whole[0] != pytest.approx(dropped[0], abs=1e-5)


def test_it_ends_early_where_the_undisturbed_run_does(results: Results) -> None:
    """Also when a stop came in the middle of a look, or at the very end."""
    whole, lives = results["early-whole-1"], [results[f"early-lives-{n}"] for n in (1, 2, 3, 4)]
    assert [life["code"] for life in lives] == [85, 85, 85, 0]
    assert [life["step"] for life in lives] == [3, 4, 6, 6]
    assert (lives[-1]["step"], lives[-1]["total"]) == (whole["step"], whole["total"]) == (6, 6)
    for what in ("digest", "optimizer", "tokens"):
        assert lives[-1][what] == whole[what]
    looks = {step: loss for life in lives for step, loss in life["looks"].items() if int(step) % 2 == 0}
    assert looks == whole["looks"]
    assert "stopped early at step 6 of 10" in whole["early"] == lives[-1]["early"]


def test_the_best_checkpoint_is_made_and_kept(results: Results) -> None:
    whole = results["early-whole-1"]
    best = min(whole["looks"], key=lambda step: float(whole["looks"][step]))
    assert whole["kept"][f"step-{best}-a1"] == whole["looks"][best]


def test_stops_at_the_asked_step(results: Results) -> None:
    assert [results[run]["step"] for run in ("lora2-middle-1", "lora2-epoch-1", "lora2-epoch-2")] == [4, 3, 6]


@pytest.mark.parametrize("run", ["shrink", "grow"])
def test_another_world_size_learns_the_same(results: Results, run: str) -> None:
    assert_near(results, run, "lora2-whole-1")


def test_training_changes_the_weights(results: Results) -> None:
    digests = {results[run]["digest"] for run in ("lora2-whole-1", "lora2-middle-1", "full2-whole-1", "lora1-whole-1")}
    assert len(digests) == 4
    first, last = results["full2-whole-1"]["losses"]["1"], results["full2-whole-1"]["losses"]["10"]
    assert last < first
    assert torch.isfinite(torch.tensor(last))


def test_a_sharded_lion_is_a_whole_one(results: Results) -> None:
    ours, theirs = (list(results[f"{run}-whole-1"]["losses"].values()) for run in ("Lion-FSDP", "Lion"))
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_each_optimizer_learns_in_its_own_way(results: Results) -> None:
    runs = [list(results[f"{name}-whole-1"]["losses"].values()) for name in OPTIMIZERS]
    assert all(losses[-1] < losses[0] for losses in runs)
    assert len({losses[-1] for losses in runs}) == len(runs)
