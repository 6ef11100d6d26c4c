"""What goes with a curriculum, and that jobs without one are what they were."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.runkey import run_key
from finetune_cli import rules

BY_LENGTH = {"by": "Length"}


def document(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "model": {"uri": "s3://artifacts/base"},
        "data": {"train": [{"uri": "s3://artifacts/train.jsonl"}], **data},
        "method": {"type": "LoRA"},
        **changes,
    }


def refusals(data: dict[str, Any], **changes: Any) -> str:
    """As the API server would answer."""
    schema = rules.schema("FineTuneJob")
    job = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "a"}}
    return "; ".join(
        str(found) for found in rules.broken(schema, rules.defaulted(schema, job | {"spec": document(data, **changes)}))
    )


@pytest.mark.parametrize(
    ("data", "changes", "words"),
    [
        ({"curriculum": {"by": "Column"}}, {}, "column is set where by is Column"),
        ({"curriculum": BY_LENGTH | {"column": "level"}}, {}, "and only there"),
        ({"curriculum": BY_LENGTH, "packing": True}, {}, "remove packing: true"),
        ({"curriculum": BY_LENGTH}, {"objective": {"type": "Pretrain"}}, "set objective.type: SFT"),
        (
            {"curriculum": BY_LENGTH},
            {"retention": {"replay": {"data": {"uri": "s3://artifacts/kept.jsonl"}, "percent": 5}}},
            "no place in data.curriculum",
        ),
    ],
)
def test_what_does_not_work_is_refused_with_a_way_out(
    data: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    assert words in refusals(data, **changes)


@pytest.mark.parametrize("data", [{}, {"curriculum": BY_LENGTH, "packing": False}, {"curriculum": BY_LENGTH}])
def test_what_works_is_taken(data: dict[str, Any]) -> None:
    assert not refusals(data)


def test_an_order_is_another_run() -> None:
    keys = [
        run_key(FineTuneJobSpec.model_validate(document(data)), model_revision="m", data_fingerprint="d")
        for data in ({}, {"curriculum": BY_LENGTH}, {"curriculum": BY_LENGTH | {"order": "Descending"}})
    ]
    assert len(set(keys)) == 3
