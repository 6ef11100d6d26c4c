"""The matrix of training methods: each learns, resumes bit for bit, is published, and gives the same logits again."""

from __future__ import annotations

import pytest

from finetune_api.allowed import METHODS as TRAITS
from finetune_api.allowed import published_kind
from finetune_api.method import Method
from tests.cells import cells
from tests.trainer.methods import METHODS
from tests.trainer.ranks import Results, assert_resumed

RANKS = {"script": "methods.py", "ranks": 1, "shown": "[^-]+-(whole|middle)"}
NAMES = cells(METHODS, set(TRAITS))
"""In `make test` one of each type."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_method_is_in_the_matrix() -> None:
    assert {changes["method"]["type"] for changes in METHODS.values()} == set(TRAITS)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_and_resumes_bit_for_bit(results: Results, name: str) -> None:
    assert "error" not in results[name], results[name]["error"]
    losses = list(results[f"{name.lower()}-whole-1"]["losses"].values())
    assert losses[-1] < losses[0] - 0.02
    assert_resumed(results, name.lower())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_published_computes_what_was_trained(results: Results, name: str) -> None:
    assert "error" not in results[name], results[name]["error"]
    found = results[name]["published"]
    assert found["code"] == 0, found["message"]
    merge = METHODS[name].get("output", {}).get("merge", True)
    assert found["kind"] == published_kind(Method.model_validate(METHODS[name]["method"]), merge=merge)
    assert found["difference"] < 1e-4
    assert found["moved"] > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_the_estimate_counts_its_parameters(results: Results, name: str) -> None:
    assert "error" not in results[name], results[name]["error"]
    found = results[name]["published"]
    assert found["estimated"] == found["trainable"] > 0
