"""What goes with retention, as the API server says it, and who has to know of its sources."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.retention import all_sources, copies, needs_whole
from finetune_api.runkey import frozen_digest, run_key
from tests.api.test_allowed import refusals

KEPT = {"uri": "s3://artifacts/kept.jsonl", "secretRef": {"name": "kept"}}
REPLAY = {"replay": {"data": KEPT, "percent": 10}}
EWC = {"ewc": {"lambda": "100", "data": KEPT}}
KL = {"klToBase": {"weight": "1", "data": KEPT}}
FULL, LORA = {"type": "FullFineTune"}, {"type": "LoRA"}


def spec(**changes: Any) -> FineTuneJobSpec:
    document = {
        "model": {"uri": "s3://artifacts/base"},
        "data": {"train": [{"uri": "s3://artifacts/train.jsonl"}]},
        "method": FULL,
    }
    return FineTuneJobSpec.model_validate(document | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"retention": {"l2sp": "1"}, "method": LORA}, "use retention.klToBase or replay"),
        ({"retention": {"l2sp": "1"}, "method": FULL, "parallelism": {"strategy": "ZeRO2"}}, "DDP only"),
        ({"retention": {"l2sp": "1"}, "method": FULL, "parallelism": {"strategy": "FSDP"}}, "DDP only"),
        ({"retention": REPLAY, "method": LORA, "objective": {"type": "DPO"}}, "set one of these"),
        ({"retention": KL, "method": LORA, "parallelism": {"strategy": "FSDP"}}, "DDP only"),
        ({"retention": EWC, "method": LORA}, "use retention.klToBase or replay"),
        ({"retention": EWC, "method": FULL, "parallelism": {"strategy": "ZeRO3"}}, "DDP only"),
        ({"retention": KL, "method": {"type": "Prompt"}}, "cannot be asked what the base says"),
        ({"retention": KL, "method": {"type": "Bottleneck"}}, "set method.type: LoRA"),
        ({"retention": KL, "method": {"type": "LoRA", "lora": {"init": "PiSSA"}}}, "remove lora.init"),
        (
            {"retention": KL, "method": LORA, "training": {"regularization": {"neftuneAlpha": "5"}}},
            "remove training.regularization.neftuneAlpha",
        ),
    ],
)
def test_what_does_not_work_is_refused_with_a_way_out(changes: dict[str, Any], words: str) -> None:
    (told,) = refusals(**changes)
    assert words in told


@pytest.mark.parametrize(
    "changes",
    [
        {"retention": {"l2sp": "0.01"}, "method": FULL},
        {"retention": {"l2sp": "1", **REPLAY}, "method": {"type": "Freeze"}, "objective": {"type": "Pretrain"}},
        {"retention": REPLAY, "method": LORA, "parallelism": {"strategy": "FSDP"}},
        {"retention": KL, "method": LORA},
        {"retention": EWC, "method": {"type": "Freeze"}},
        {"retention": {**KL, "l2sp": "0.1", **REPLAY}, "method": FULL},
        {"retention": KL, "method": {"type": "IA3"}, "training": {"regularization": {"dropout": "0.1"}}},
        {"retention": REPLAY, "method": {"type": "Prompt"}, "objective": {"type": "SFT"}},
    ],
)
def test_what_works_is_admitted(changes: dict[str, Any]) -> None:
    assert refusals(**changes) == []


@pytest.mark.parametrize(
    "block",
    [
        {"l2sp": "0"},
        {"l2sp": "-1"},
        {"replay": {"percent": 10}},
        {"replay": {"data": KEPT, "percent": 91}},
        {"klToBase": {"data": KEPT, "weight": "0"}},
    ],
)
def test_numbers_without_a_meaning_are_refused(block: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(retention=block)


def test_on_the_wire_it_has_the_names_of_the_contract() -> None:
    block = {"l2sp": "0.5", **EWC, **REPLAY}
    wire = spec(retention=block).to_wire()["retention"]
    assert wire["l2sp"] == "0.5"
    assert (wire["ewc"]["lambda"], wire["ewc"]["samples"]) == ("100", 256)
    assert wire["replay"]["data"]["uri"] == KEPT["uri"]


def test_its_sources_are_among_all_sources() -> None:
    assert [source.uri for source in all_sources(spec())] == ["s3://artifacts/train.jsonl"]
    assert all_sources(spec(retention=REPLAY))[-1].uri == KEPT["uri"]
    assert len(all_sources(spec(retention={**KL, **EWC, **REPLAY}))) == 4


def test_it_is_part_of_the_run_only_where_it_is_set() -> None:
    def key(found: FineTuneJobSpec) -> str:
        return run_key(found, model_revision="m1", data_fingerprint="d1")

    other = {"replay": {"data": {**KEPT, "secretRef": {"name": "another"}}, "percent": 10}}
    assert key(spec(retention={"l2sp": "1"})) != key(spec())
    assert frozen_digest(spec(retention=REPLAY)) != frozen_digest(spec())
    assert key(spec(retention=other)) == key(spec(retention=REPLAY))


def test_what_is_kept_beside_the_weights_is_said() -> None:
    assert needs_whole(None) is None
    assert copies(None, spec().method) == copies(spec(retention=REPLAY).retention, spec().method) == 0
    l2sp = spec(retention={"l2sp": "1"}).retention
    assert copies(l2sp, spec().method) == 1
    both = spec(retention={"l2sp": "1", "klToBase": {"weight": "1", "data": KEPT}}).retention
    assert copies(both, spec().method) == 2
    assert copies(both, spec(method=LORA).method) == 0
    assert copies(spec(retention=EWC).retention, spec().method) == 2
    assert copies(spec(retention={"l2sp": "1", **EWC}).retention, spec().method) == 2
    assert "DDP" in (needs_whole(l2sp) or "")
