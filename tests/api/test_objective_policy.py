"""The grpo and rloo blocks and what they go with, as the API server says it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from finetune_api.objective_policy import GRPOSettings
from finetune_api.objective_ppo import PPOSettings
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
    assert refusals(policy("PPO", beta="0.05", updates=2, gaeLambda="1.0"), data=SOURCE, method={"type": "DoRA"}) == []


@pytest.mark.parametrize("kind", ["GRPO", "RLOO", "PPO"])
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


@pytest.mark.parametrize("kind", ["GRPO", "RLOO", "PPO"])
def test_a_block_and_its_type_belong_together(kind: str) -> None:
    assert any("needs it for its rewards" in one for one in refusals({"type": kind}))
    assert any("needs it for its rewards" in one for one in refusals({**policy(kind), "type": "SFT"}))


@pytest.mark.parametrize(
    ("fields", "changes", "words"),
    [
        ({}, {"method": {"type": "LoRA", "lora": {"dropout": "0.1"}}}, "dropout would make them differ"),
        ({}, {"training": {"regularization": {"dropout": "0.1"}}}, "dropout would make them differ"),
    ],
)
def test_what_does_not_go_with_ppo_is_refused_in_words(
    fields: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    told = refusals(policy("PPO", **fields), **changes)
    assert any(words in one for one in told), told


@pytest.mark.parametrize("fields", [{"gaeLambda": "1.5"}, {"clipRange": "0"}, {"updates": 17}, {"generations": 0}])
def test_what_ppo_cannot_be_is_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        PPOSettings.model_validate({"rewards": REWARDS, **fields})


def test_ppo_writes_one_answer_where_groups_need_two() -> None:
    assert PPOSettings.model_validate({"rewards": REWARDS}).generations == 1
    with pytest.raises(ValidationError, match="generations"):
        GRPOSettings.model_validate({"rewards": REWARDS, "generations": 1})
