"""Retention: each term lowers forgetting, is resumed exactly, and does not depend on the number of ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.trainer.exact_retention import SEEDS
from tests.trainer.ranks import Results, joined, run_ranks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TERMS = {"l2sp": "full", "kl-full": "full", "kl-lora": "lora", "ewc": "full", "replay": "full"}
"""With the method that it is compared under."""
REPORTED = {"full": ["l2spLoss", "klToBaseLoss", "ewcLoss"], "lora": ["klToBaseLoss"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("retention")


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    found: Results = run_ranks("exact_retention.py", folder, ranks=2, phases=3)
    return found


def lines(folder: Path, run: str, attempt: int = 1) -> list[dict[str, Any]]:
    path = folder / "scratch" / f"{run}-{attempt}-0" / "attempt" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


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
    parts = [f"{name}-middle-1", f"{name}-middle-2"]
    reference, last = results[f"{name}-whole-1"], results[parts[-1]]
    assert [results[part]["code"] for part in parts] == [85, 0]
    assert last["step"] == reference["step"] == 10
    assert last["digest"] == reference["digest"]
    assert last["optimizer"] == reference["optimizer"]
    assert joined(results, parts, "losses") == reference["losses"]
    assert joined(results, parts, "norms") == reference["norms"]


@pytest.mark.parametrize("name", sorted(set(TERMS.values())))
def test_another_world_size_learns_the_same(results: Results, name: str) -> None:
    reference, last = results[f"{name}-whole-1"], results[f"{name}-shrink-2"]
    losses = results[f"{name}-shrink-1"]["losses"] | last["losses"]
    assert losses.keys() == reference["losses"].keys()
    assert max(abs(losses[step] - reference["losses"][step]) for step in losses) < 1e-5
    ours, theirs = (load_file(Path(r["folder"]) / "trainable.safetensors") for r in (last, reference))
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-5


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
