"""A custom script beside the fields that only the built-in trainer reads."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from finetune_api.custom import unread
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.runkey import frozen_digest, run_key, spec_digest

CUSTOM: dict[str, Any] = {
    "model": {"uri": "s3://artifacts/base"},
    "data": {"train": [{"uri": "s3://artifacts/train.jsonl", "secretRef": {"name": "a"}}]},
    "trainer": {"type": "Custom", "image": "registry/own:1", "custom": {"command": ["python", "/opt/train.py"]}},
}
BUILT_IN = {k: v for k, v in CUSTOM.items() if k != "trainer"} | {"method": {"type": "LoRA"}}


def words(document: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        FineTuneJobSpec.model_validate(document)
    return str(caught.value)


def test_a_custom_job_has_no_method_and_travels() -> None:
    spec = FineTuneJobSpec.model_validate(CUSTOM)
    assert spec.is_custom
    assert "method" not in spec.to_wire()
    assert FineTuneJobSpec.model_validate(spec.to_wire()) == spec


def test_the_type_unset_is_the_built_in_trainer_and_changes_no_digest() -> None:
    unset = FineTuneJobSpec.model_validate(BUILT_IN)
    said = FineTuneJobSpec.model_validate(BUILT_IN | {"trainer": {"type": "BuiltIn"}})
    assert not unset.is_custom
    assert not said.is_custom
    assert "type" not in unset.to_wire()["trainer"]
    assert frozen_digest(unset) == frozen_digest(said)
    assert spec_digest(unset) != spec_digest(said)


def test_golden() -> None:
    spec = FineTuneJobSpec.model_validate(CUSTOM)
    assert run_key(spec, model_revision="m1", data_fingerprint="d1") == "90bb9d2bd3afe61d"


@pytest.mark.parametrize(
    ("trainer", "same"),
    [
        ({"image": "registry/own:2"}, True),
        ({"custom": {"command": ["python", "/opt/other.py"]}}, False),
        ({"custom": {"command": ["python", "/opt/train.py"], "args": ["--lr=1"]}}, False),
    ],
)
def test_what_is_run_is_the_run_and_the_image_may_be_repaired(trainer: dict[str, Any], same: bool) -> None:
    changed = FineTuneJobSpec.model_validate(CUSTOM | {"trainer": CUSTOM["trainer"] | trainer})
    assert (frozen_digest(changed) == frozen_digest(FineTuneJobSpec.model_validate(CUSTOM))) is same


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"method": {"type": "LoRA"}}, "spec.method"),
        ({"training": {"maxSteps": 3}}, "spec.training"),
        ({"parallelism": {"strategy": "FSDP"}}, "spec.parallelism"),
        ({"data": CUSTOM["data"] | {"maxLength": 64}}, "spec.data.maxLength"),
        ({"data": CUSTOM["data"] | {"validation": {"percent": 5}}}, "spec.data.validation.percent"),
        ({"data": {"train": [{"uri": "s3://artifacts/t.jsonl", "limit": 3}]}}, "spec.data.train[0].limit"),
        ({"checkpoint": {"intervalSteps": 3}}, "spec.checkpoint.intervalSteps"),
        ({"evaluation": {"perplexity": False}}, "spec.evaluation.perplexity"),
        ({"output": {"merge": False}}, "spec.output.merge"),
        ({"publish": {"servedCheck": {"enabled": True}}}, "spec.publish.servedCheck"),
        ({"resources": {"estimatePolicy": "Enforce"}}, "spec.resources.estimatePolicy"),
    ],
)
def test_what_nobody_would_read_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    assert f"{field}: with trainer.type: Custom" in words(CUSTOM | changes)


def test_every_unread_field_is_named_at_once() -> None:
    wire = {"training": {"seed": 1}, "data": {"packing": True}, "objective": {"type": "SFT"}}
    assert set(unread(wire)) == {"spec.training", "spec.data.packing", "spec.objective"}


def test_defaults_that_the_api_server_fills_in_are_not_taken_for_wishes() -> None:
    filled = CUSTOM | {
        "training": {"seed": 42},
        "parallelism": {},
        "output": {"merge": True},
        "data": CUSTOM["data"] | {"maxLength": 2048},
    }
    assert FineTuneJobSpec.model_validate(filled).is_custom


@pytest.mark.parametrize("missing", ["image", "custom"])
def test_custom_needs_an_image_and_a_command(missing: str) -> None:
    trainer = {k: v for k, v in CUSTOM["trainer"].items() if k != missing}
    assert "needs image" in words(CUSTOM | {"trainer": trainer})


def test_the_built_in_trainer_needs_a_method_and_has_no_command() -> None:
    assert "spec.method: is required" in words({k: v for k, v in BUILT_IN.items() if k != "method"})
    assert "spec.trainer.custom" in words(BUILT_IN | {"trainer": {"custom": {"command": ["true"]}}})
