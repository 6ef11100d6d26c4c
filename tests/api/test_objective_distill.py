"""The distill block and what it goes with, as the API server says it."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_cli.rules import broken, defaulted, schema

TEACHER = {"uri": "s3://models/large", "secretRef": {"name": "models-s3"}}


def refusals(objective: dict[str, Any], **changes: Any) -> list[str]:
    job = schema("FineTuneJob")
    document = {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "bot"},
        "spec": {
            "model": {"uri": "s3://artifacts/base"},
            "data": {"train": [{"uri": "s3://artifacts/train.jsonl"}]},
            "method": {"type": "LoRA"},
            "objective": objective,
            **changes,
        },
    }
    return [words for _, words in broken(job, defaulted(job, document))]


def distill(**fields: Any) -> dict[str, Any]:
    return {"type": "Distill", "distill": {"teacher": TEACHER, **fields}}


ANSWERS = {"type": "Distill", "distill": {"topK": {"uri": "s3://models/answers"}}}


@pytest.mark.parametrize(
    "objective", [ANSWERS, distill(), distill(loss="JSD", beta="0.3"), distill(weight="0.5", temperature="2")]
)
def test_what_works_is_let_through(objective: dict[str, Any]) -> None:
    assert refusals(objective) == []


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (distill(topK={"uri": "s3://models/answers"}), "set teacher (asked in training), or topK (its answers)"),
        ({"type": "Distill", "distill": {}}, "set teacher (asked in training), or topK (its answers)"),
        (distill(beta="0.3"), "beta belongs to loss: JSD"),
        ({"type": "Distill"}, "the distill block belongs to type Distill, which needs it for its teacher"),
        ({"type": "SFT", "distill": {"teacher": TEACHER}}, "the distill block belongs to type Distill"),
    ],
)
def test_what_does_not_is_refused_in_words(objective: dict[str, Any], words: str) -> None:
    (told,) = refusals(objective)
    assert words in told


def test_zero_is_refused_and_fsdp_is_not() -> None:
    (told,) = refusals(distill(), parallelism={"strategy": "ZeRO2"})
    assert "Distill has not been proven under ZeRO" in told
    assert refusals(distill(), parallelism={"strategy": "FSDP"}) == []


def test_answers_found_by_record_are_not_packed() -> None:
    data = {"train": [{"uri": "s3://artifacts/train.jsonl"}], "packing": True}
    (told,) = refusals(ANSWERS, data=data)
    assert "remove data.packing" in told
    assert refusals(distill(), data=data) == []
