"""The grpo and rloo blocks and what they go with, as the API server says it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.test_objective_distill import refusals

REWARDS = [{"type": "Number"}, {"type": "Regex", "pattern": "^<think>", "weight": "0.2"}]
MODEL = {"type": "Model", "model": {"uri": "s3://a/judge", "secretRef": {"name": "s"}}}
SOURCE = {"train": [{"uri": "s3://a/b"}], "onOverflow": "Drop"}


def policy(kind: str = "GRPO", **fields: Any) -> dict[str, Any]:
    return {"type": kind, kind.lower(): {"rewards": REWARDS, **fields}}


def test_what_works_is_let_through() -> None:
    assert refusals(policy(loss="DrGRPO", beta="0.04", generations=16), data=SOURCE) == []
    assert refusals(policy("RLOO", beta="0.05"), data=SOURCE, parallelism={"strategy": "DDP"}) == []
    assert refusals(policy(beta="0.05"), data=SOURCE, method={"type": "QLoRA"}) == []
    assert refusals(policy("RLOO", beta="0.0"), data=SOURCE, method={"type": "FullFineTune"}) == []
    assert refusals(policy(rewards=[*REWARDS, MODEL]), data=SOURCE) == []


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
@pytest.mark.parametrize(
    ("fields", "changes", "words"),
    [
        ({"rewards": [{"type": "Regex"}]}, {}, "pattern belongs to type Regex"),
        ({"rewards": [{"type": "Number", "pattern": "a"}]}, {}, "pattern belongs to type Regex"),
        ({"rewards": [{"type": "Model"}]}, {}, "model belongs to type Model"),
        ({"rewards": [{**MODEL, "type": "Number"}]}, {}, "model belongs to type Model"),
        ({"rewards": [MODEL, REWARDS[0], MODEL]}, {}, "one reward model can be asked"),
        ({}, {"data": {**SOURCE, "packing": True}}, "prompts that are answered in training do not share rows"),
        ({}, {"data": {**SOURCE, "trainOn": "All"}}, "remove data.trainOn"),
        ({}, {"data": {**SOURCE, "onOverflow": "Split"}}, "must not be cut off"),
        ({}, {"data": {"train": SOURCE["train"]}}, "set data.onOverflow: Drop or Error"),
        ({}, {"method": {"type": "IA3"}}, "proven with LoRA, QLoRA, DoRA and FullFineTune"),
        ({"beta": "0.1"}, {"method": {"type": "FullFineTune"}}, "which is there with LoRA, QLoRA and DoRA"),
        ({"beta": "0.1"}, {"method": {"type": "LoRA", "lora": {"init": "PiSSA"}}}, "which is there with LoRA"),
        ({}, {"training": {"regularization": {"neftuneAlpha": "5"}}}, "NEFTune has not been proven"),
        ({}, {"parallelism": {"strategy": "FSDP"}}, "has been proven under DDP only"),
        ({}, {"training": {"onSpike": "SkipBatch"}}, "remove training.onSpike"),
        ({}, {"training": {"onSpike": "Stop"}}, "remove training.onSpike"),
        ({}, {"retention": {"l2sp": "0.1"}}, "retention"),
    ],
)
def test_what_does_not_go_with_it_is_refused_in_words(
    kind: str, fields: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    told = refusals(policy(kind, **fields), **changes)
    assert any(words in one for one in told), told


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_a_block_and_its_type_belong_together(kind: str) -> None:
    assert any("needs it for its rewards" in one for one in refusals({"type": kind}))
    assert any("needs it for its rewards" in one for one in refusals({**policy(kind), "type": "SFT"}))
