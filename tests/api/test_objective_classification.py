"""The classification block and what it goes with, as the API server says it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from finetune_api.objective_classification import ClassificationSettings
from tests.api.test_objective_distill import refusals

LABELS = ["no", "yes"]


def classification(**fields: Any) -> dict[str, Any]:
    return {"type": "Classification", "classification": {"labels": LABELS, **fields}}


def test_what_works_is_let_through() -> None:
    assert refusals(classification()) == []
    weighted = classification(problem="MultiLabel", classWeights={"yes": "4"})
    assert refusals(weighted, method={"type": "FullFineTune"}, parallelism={"strategy": "DDP"}) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": {"type": "Classification"}}, "needs it for its labels"),
        ({"objective": {"type": "SFT", "classification": {"labels": LABELS}}}, "belongs to type Classification"),
        ({"objective": classification(classWeights={"maybe": "2"})}, "classWeights names a label that labels does not"),
        ({"data": {"train": [{"uri": "s3://a/b"}], "packing": True}}, "labeled texts do not share rows"),
        ({"data": {"train": [{"uri": "s3://a/b"}], "trainOn": "All"}}, "remove data.trainOn"),
        ({"data": {"train": [{"uri": "s3://a/b"}], "onOverflow": "Split"}}, "a label belongs to a whole text"),
        ({"method": {"type": "Prompt", "prompt": {}}}, "proven with LoRA and FullFineTune"),
        ({"method": {"type": "LoRA", "lora": {"init": "PiSSA"}}}, "not been proven with lora.init PiSSA"),
        ({"parallelism": {"strategy": "FSDP"}}, "Classification has been proven under DDP only"),
        ({"output": {"merge": False}}, "a classifier is published whole"),
        ({"publish": {"servedCheck": {"enabled": True}}}, "a classifier writes nothing"),
        ({"evaluation": {"gate": [{"metric": "f1", "relativeTo": "Base"}]}}, "no labels to compare with"),
    ],
)
def test_what_does_not_go_with_it_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    told = refusals(**{"objective": classification(), **changes})
    assert any(words in one for one in told), told


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"labels": ["a", "b", "a"]}, "'a' stands there twice"),
        ({"labels": ["a"]}, "at least 2"),
        ({"labels": LABELS, "classWeights": {"maybe": "2"}}, "classWeights names 'maybe', which is none of labels"),
        ({"labels": LABELS, "classWeights": {"yes": "0"}}, "String should match pattern"),
    ],
)
def test_what_has_no_meaning_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ClassificationSettings.model_validate(fields)
