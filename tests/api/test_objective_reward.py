"""The reward block and what it goes with, as the API server says it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.test_objective_distill import refusals

REWARD: dict[str, Any] = {"type": "Reward", "reward": {"margin": "0.5", "centering": "0.01"}}
GATE = {"gate": [{"metric": "preferenceAccuracy", "relativeTo": "Base"}]}


def test_what_works_is_let_through() -> None:
    assert refusals(REWARD) == []
    assert refusals({"type": "Reward"}, method={"type": "FullFineTune"}, parallelism={"strategy": "DDP"}) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": {"type": "DPO", "reward": {}}}, "the reward block belongs to type Reward"),
        ({"data": {"train": [{"uri": "s3://a/b"}], "packing": True}}, "pairs of answers do not share rows"),
        ({"method": {"type": "Prompt", "prompt": {}}}, "proven with LoRA and FullFineTune"),
        ({"method": {"type": "LoRA", "lora": {"init": "PiSSA"}}}, "not been proven with lora.init PiSSA"),
        ({"method": {"type": "LoRA", "lora": {"modulesToSave": ["norm"]}}}, "nor with lora.modulesToSave"),
        ({"parallelism": {"strategy": "FSDP"}}, "Reward has been proven under DDP only"),
        ({"output": {"merge": False}}, "published whole"),
        ({"publish": {"servedCheck": {"enabled": True}}}, "writes nothing"),
        ({"evaluation": GATE}, "no scores to compare with"),
    ],
)
def test_what_does_not_go_with_it_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    told = refusals(**{"objective": REWARD, **changes})
    assert any(words in one for one in told), told
