"""Retention: each term lowers forgetting, is resumed exactly, and does not depend on the number of ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.trainer.exact_retention import SEEDS
from tests.trainer.ranks import Results, assert_near, assert_resumed, lines

RANKS = {"script": "exact_retention.py", "ranks": 2}
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]
TERMS = {"l2sp": "full", "kl-full": "full", "kl-lora": "lora", "ewc": "full", "replay": "full"}
"""With the method that it is compared under."""
REPORTED = {"full": ["l2spLoss", "klToBaseLoss", "ewcLoss"], "lora": ["klToBaseLoss"]}


def last_look(results: Results, run: str) -> float:
    """The held-out loss of the first task when training ended."""
    looks = results[f"{run}-1"]["looks"]
    return float(looks[max(looks, key=int)])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("term", TERMS)
def test_less_is_forgotten(results: Results, term: str, seed: int) -> None:
    knew = last_look(results, "first")
    without, within = (last_look(results, f"{run}-{seed}") for run in (f"none-{TERMS[term]}", term))
    assert without > knew + 0.5, "nothing was forgotten"
    assert within - knew < 0.7 * (without - knew)
    losses = list(results[f"{term}-{seed}-1"]["losses"].values())
    assert losses[-1] < 0.5 * losses[0], "the second task was not learned"


@pytest.mark.parametrize("name", sorted(set(TERMS.values())))
def test_same_world_size_is_bit_exact(results: Results, name: str) -> None:
    assert_resumed(results, name)
    assert results[f"{name}-whole-1"]["total"] == 10


@pytest.mark.parametrize("name", sorted(set(TERMS.values())))
def test_another_world_size_learns_the_same(results: Results, name: str) -> None:
    assert_near(results, f"{name}-shrink", f"{name}-whole-1")


@pytest.mark.parametrize(("name", "term"), [(name, term) for name, terms in REPORTED.items() for term in terms])
def test_each_term_is_reported_beside_the_loss(results: Results, folder: Path, name: str, term: str) -> None:
    assert results[f"{name}-whole-1"]["step"] == 10
    told = [line[term] for line in lines(folder, f"{name}-whole") if "loss" in line]
    assert told[0] == pytest.approx(0, abs=1e-6)
    assert all(value > 0 for value in told[1:])
    assert [
        line[term] for attempt in (1, 2) for line in lines(folder, f"{name}-middle", attempt) if "loss" in line
    ] == told
    progress = json.loads((folder / "scratch" / f"{name}-whole-1-0" / "channel" / "progress.json").read_text())
    assert progress["retention"][term] == pytest.approx(told[-1], abs=1e-6)
