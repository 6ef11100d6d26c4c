"""DPO and pre-training: exact resume, the same from one rank and from two, and preferences are learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.exact_objectives import SEEDS
from tests.trainer.ranks import Results, assert_losses_near, assert_near, assert_resumed, lines

RANKS = {"script": "exact_objectives.py", "ranks": 2}
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]
FOLDER = "objectives"


@pytest.mark.parametrize(
    "run",
    [
        "dpo",
        "full",
        "text",
        "kto",
        "kto-full",
        "reward",
        "reward-full",
        "classes",
        "classes-full",
        "grpo",
        "grpo-full",
        "rloo",
        "ppo",
        "ppo-full",
        "judged",
    ],
)
def test_same_world_size_is_bit_exact(results: Results, run: str) -> None:
    assert_resumed(results, run)
    assert results[f"{run}-whole-1"]["total"] == 10


@pytest.mark.parametrize(
    ("run", "whole"),
    [
        ("shrink", "full-whole-1"),
        ("grow", "dpo-whole-1"),
        ("kto-shrink", "kto-whole-1"),
        ("reward-shrink", "reward-full-whole-1"),
        ("classes-shrink", "classes-full-whole-1"),
        ("grpo-shrink", "grpo-full-whole-1"),
        ("ppo-shrink", "ppo-full-whole-1"),
    ],
)
def test_another_world_size_learns_the_same(results: Results, run: str, whole: str) -> None:
    assert_near(results, run, whole)


def test_sharded_parameters_learn_the_same(results: Results) -> None:
    assert_losses_near(results["fsdp-whole-1"]["losses"], results["full-whole-1"]["losses"])


@pytest.mark.parametrize(("run", "whole"), [("kto-fsdp-whole-1", "kto-full-whole-1"), ("kto-micro-1", "kto-still-1")])
def test_how_ratings_are_cut_changes_nothing(results: Results, run: str, whole: str) -> None:
    assert_losses_near(results[run]["losses"], results[whole]["losses"])


def test_what_the_base_says_is_written_down_where_all_weights_train(results: Results, folder: Path) -> None:
    def references(run: str) -> list[str]:
        return sorted(p.suffix for p in (folder / "store" / run / "objective").glob("*"))

    assert results["dpo-whole-1"]["losses"]["1"] == pytest.approx(0.693147, abs=1e-5)
    assert results["full-whole-1"]["losses"]["1"] == pytest.approx(0.693147, abs=1e-5)
    assert references("full-whole") == [".safetensors"] * 2
    assert references("dpo-whole") == []


@pytest.mark.parametrize("seed", SEEDS)
def test_preferences_are_learned(results: Results, folder: Path, seed: int) -> None:
    assert results[f"toy-{seed}-1"]["step"] == 12
    steps = [line for line in lines(folder, f"toy-{seed}") if "loss" in line]
    assert (steps[0]["preferenceAccuracy"], steps[0]["rewardMargin"]) == (0.5, 0)
    assert sum(line["preferenceAccuracy"] for line in steps[-5:]) / 5 > 0.8
    assert steps[-1]["rewardMargin"] > 0.5
    assert steps[-1]["loss"] < 0.5
    held_out = [line for line in lines(folder, f"toy-{seed}") if "evalLoss" in line][-1]
    assert held_out["evalPreferenceAccuracy"] > 0.7


@pytest.mark.parametrize("seed", SEEDS)
def test_scores_are_learned(results: Results, folder: Path, seed: int) -> None:
    assert results[f"reward-toy-{seed}-1"]["step"] == 12
    steps = [line for line in lines(folder, f"reward-toy-{seed}") if "loss" in line]
    assert steps[-1]["loss"] < 0.5
    held_out = [line for line in lines(folder, f"reward-toy-{seed}") if "evalLoss" in line][-1]
    assert held_out["evalPreferenceAccuracy"] > 0.8


@pytest.mark.parametrize("seed", SEEDS)
def test_labels_are_learned(results: Results, folder: Path, seed: int) -> None:
    assert results[f"classes-toy-{seed}-1"]["step"] == 12
    steps = [line for line in lines(folder, f"classes-toy-{seed}") if "loss" in line]
    assert steps[0]["accuracy"] < 0.6
    assert steps[-1]["loss"] < steps[0]["loss"] / 2
    held_out = [line for line in lines(folder, f"classes-toy-{seed}") if "evalLoss" in line][-1]
    assert held_out["evalAccuracy"] > 0.9


def rewards(folder: Path, run: str, name: str = "reward") -> list[float]:
    return [line[name] for line in lines(folder, run) if name in line]


@pytest.mark.parametrize("run", ["grpo-micro", "grpo-again", "ppo-micro", "ppo-again"])
def test_how_answers_are_cut_and_computed_changes_nothing(results: Results, folder: Path, run: str) -> None:
    assert results[f"{run}-1"]["step"] == 10
    whole = rewards(folder, f"{run.partition('-')[0]}-full-whole")
    assert rewards(folder, run) == pytest.approx(whole, abs=1e-6)
    assert len(set(whole)) > 2


@pytest.mark.parametrize("kind", ["grpo", "rloo", "ppo"])
@pytest.mark.parametrize("seed", SEEDS)
def test_rewards_are_raised(results: Results, folder: Path, kind: str, seed: int) -> None:
    run = f"{kind}-toy-{seed}"
    assert results[f"{run}-1"]["step"] == 12
    found, held_out = rewards(folder, run), rewards(folder, run, "evalReward")
    assert sum(found[-3:]) / 3 > sum(found[:3]) / 3 + 0.2
    assert held_out[-1] > 0.5
    losses = rewards(folder, run, "evalLoss")
    assert losses == pytest.approx([-reward for reward in held_out])


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_reward_model_likes_is_learned(results: Results, folder: Path, seed: int) -> None:
    assert results[f"judged-toy-{seed}-1"]["step"] == 30
    found, held_out = rewards(folder, f"judged-toy-{seed}"), rewards(folder, f"judged-toy-{seed}", "evalReward")
    spread = rewards(folder, f"judged-toy-{seed}", "rewardStd")[0]
    assert sum(found[-3:]) / 3 > sum(found[:3]) / 3 + spread / 2
    assert held_out[-1] > sum(found[:3]) / 3 + spread / 2


@pytest.mark.parametrize("seed", SEEDS)
def test_verdicts_are_learned(results: Results, folder: Path, seed: int) -> None:
    assert results[f"kto-toy-{seed}-1"]["step"] == 12
    steps = [line for line in lines(folder, f"kto-toy-{seed}") if "loss" in line]
    assert (steps[0]["ratingAccuracy"], steps[0]["signedReward"], steps[0]["kl"]) == (0.5, 0, 0)
    assert steps[0]["loss"] == pytest.approx(0.5, abs=1e-6)
    assert sum(line["signedReward"] for line in steps[-5:]) / 5 > 0.1
    assert steps[-1]["loss"] < 0.48
    held_out = [line for line in lines(folder, f"kto-toy-{seed}") if "evalLoss" in line][-1]
    assert held_out["evalRatingAccuracy"] > 0.6


def test_the_distance_from_the_base_is_seen(results: Results, folder: Path) -> None:
    """It is above 0 somewhere, or the tests of resuming and cutting would not notice it."""
    del results
    assert max(line["kl"] for line in lines(folder, "kto-still") if "loss" in line) > 0


def test_text_is_learned(results: Results) -> None:
    losses = list(results["text-whole-1"]["losses"].values())
    assert losses[-1] < losses[0]
