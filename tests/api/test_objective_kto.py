"""The kto block and what it goes with, as the API server says it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.test_objective_distill import refusals

KTO: dict[str, Any] = {"type": "KTO", "kto": {"beta": "0.2", "desirableWeight": "1.5"}}


def test_what_works_is_let_through() -> None:
    assert refusals(KTO) == []
    assert refusals({"type": "KTO"}, parallelism={"strategy": "FSDP"}) == []


def test_the_block_belongs_to_its_type() -> None:
    (told,) = refusals({"type": "SFT", "kto": {}})
    assert "the kto block belongs to type KTO" in told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"train": [{"uri": "s3://a/b"}], "packing": True}}, "rated answers do not share rows"),
        ({"data": {"train": [{"uri": "s3://a/b"}], "trainOn": "All"}}, "remove data.trainOn"),
        ({"method": {"type": "Prompt", "prompt": {}}}, "virtual tokens change it"),
        ({"parallelism": {"strategy": "ZeRO3"}}, "KTO has not been proven under ZeRO"),
        ({"training": {"regularization": {"neftuneAlpha": "5"}}}, "NEFTune's noise would reach the base"),
    ],
)
def test_what_does_not_go_with_it_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    told = refusals(KTO, **changes)
    assert any(words in one for one in told), told
