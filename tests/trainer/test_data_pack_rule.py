"""Who packs: the spec first, then how the run began, then what the model is known to do."""

import json
from pathlib import Path

import pytest

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.runkey import frozen_digest, run_key, spec_digest
from finetune_trainer.data.pack_rule import model_type, pack_rule


def test_records_in_an_order_never_share_rows() -> None:
    assert not pack_rule(None, None, "llama", ordered=True).packed


@pytest.mark.parametrize(
    ("asked", "began", "model", "packed", "why"),
    [
        (True, None, "mamba", True, "data.packing is true"),
        (False, None, "llama", False, "data.packing is false"),
        (None, False, "llama", False, "this run began unpacked"),
        (None, True, "mamba", True, "this run began packed"),
        (None, None, "llama", True, "the default"),
        (None, None, "mamba", False, "models of type mamba are not known"),
        (None, None, "", False, "models of type unknown are not known"),
    ],
)
def test_the_rule(asked: bool | None, began: bool | None, model: str, packed: bool, why: str) -> None:
    rule = pack_rule(asked, began, model)
    assert rule.packed is packed
    assert rule.why.startswith(why)


@pytest.mark.parametrize(
    ("content", "expected"),
    [('{"model_type": "qwen3"}', "qwen3"), ("{}", ""), ("[]", ""), ("{", ""), (None, "")],
)
def test_the_model_type(tmp_path: Path, content: str | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert model_type(tmp_path) == expected


def spec(**data: bool) -> FineTuneJobSpec:
    document = {
        "model": {"uri": "file:///base"},
        "data": {"train": [{"uri": "file:///train.jsonl"}], **data},
        "method": {"type": "LoRA", "lora": {"rank": 8}},
    }
    return FineTuneJobSpec.model_validate(json.loads(json.dumps(document)))


def key(of: FineTuneJobSpec) -> str:
    return run_key(of, model_revision="m", data_fingerprint="d")


def test_a_stored_spec_keeps_its_digests() -> None:
    """Computed by the version before packing: an upgrade neither reports SpecDrift nor renames a run directory."""
    assert (key(spec()), frozen_digest(spec())) == ("b89001f430a59263", "b93297d5ab675223")
    assert "packing" not in spec().to_wire()["data"]
    assert spec_digest(spec()) == spec_digest(FineTuneJobSpec.model_validate(spec().to_wire()))


def test_saying_it_is_another_run() -> None:
    assert len({key(spec()), key(spec(packing=True)), key(spec(packing=False))}) == 3
