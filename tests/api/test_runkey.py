"""Digests are golden: an operator upgrade must find the run directories of the one before."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.runkey import frozen_digest, publish_digest, run_key

BASE: dict[str, Any] = {
    "model": {"uri": "s3://artifacts/base"},
    "data": {"train": [{"uri": "s3://artifacts/train.jsonl", "secretRef": {"name": "a"}}]},
    "method": {"type": "LoRA", "lora": {"rank": 8}},
    "training": {"maxSteps": 100},
}


def key(**changes: Any) -> str:
    spec = FineTuneJobSpec.model_validate(BASE | changes)
    return run_key(spec, model_revision="m1", data_fingerprint="d1")


def test_golden() -> None:
    spec = FineTuneJobSpec.model_validate(BASE)
    assert key() == "cf61dce71f21a2eb"
    assert frozen_digest(spec) == "aff1981daaf623ba"


@pytest.mark.parametrize(
    "changes",
    [
        {"resources": {"nodes": 4}},
        {"suspend": True},
        {"retry": {"maxRestarts": 9}},
        {"evaluation": {"gate": [{"metric": "loss", "max": "1"}]}},
        {"data": {"train": [{"uri": "s3://artifacts/train.jsonl", "secretRef": {"name": "b"}}]}},
        {"training": {"maxSteps": 100, "microBatchSize": 2}},
        {"training": {"maxSteps": 100, "seed": 42}},
        {"training": {"maxSteps": 100, "compile": True}},
        {"training": {"maxSteps": 100, "kernels": "Liger"}},
    ],
)
def test_what_does_not_change_the_model_does_not_change_the_key(changes: dict[str, Any]) -> None:
    assert key(**changes) == key()


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"maxSteps": 101}},
        {"runId": "again"},
        {"method": {"type": "LoRA", "lora": {"rank": 4}}},
        {"data": {"train": [{"uri": "s3://artifacts/other.jsonl"}]}},
    ],
)
def test_what_changes_the_model_changes_the_key(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


def test_model_and_data_are_part_of_the_key() -> None:
    spec = FineTuneJobSpec.model_validate(BASE)
    assert run_key(spec, model_revision="m2", data_fingerprint="d1") != key()
    assert run_key(spec, model_revision="m1", data_fingerprint="d2") != key()


def distilled(**fields: Any) -> FineTuneJobSpec:
    teacher = {"uri": "s3://artifacts/teacher", "secretRef": {"name": "a"}} | fields
    return FineTuneJobSpec.model_validate(BASE | {"objective": {"type": "Distill", "distill": {"teacher": teacher}}})


def test_a_teacher_is_part_of_the_key_and_its_secret_is_not() -> None:
    def of(spec: FineTuneJobSpec, revision: str | None = "t1") -> str:
        return run_key(spec, model_revision="m1", data_fingerprint="d1", teacher_revision=revision)

    assert of(FineTuneJobSpec.model_validate(BASE), None) == key()
    assert of(distilled()) != key()
    assert of(distilled(), "t2") != of(distilled())
    assert of(distilled(uri="s3://artifacts/other")) != of(distilled())
    assert of(distilled(secretRef={"name": "b"})) == of(distilled())
    assert frozen_digest(distilled(secretRef={"name": "b"})) == frozen_digest(distilled())


def test_the_publish_digest_follows_the_gate() -> None:
    a = FineTuneJobSpec.model_validate(BASE)
    b = FineTuneJobSpec.model_validate(BASE | {"evaluation": {"gate": [{"metric": "loss", "max": "1"}]}})
    assert publish_digest(a) != publish_digest(b)


def test_the_publish_digest_follows_the_served_check_and_knows_nothing_of_it_while_it_is_unset() -> None:
    unset = FineTuneJobSpec.model_validate(BASE)
    # As it was before there was a served check: an upgrade publishes nothing again.
    assert publish_digest(unset) == "1c207c04b7171373"
    memory = {"servedCheck": {"resources": {"limits": {"memory": "8Gi"}}}}
    more = FineTuneJobSpec.model_validate(BASE | {"publish": memory})
    assert publish_digest(more) != publish_digest(unset)
