"""One table of what goes with what: the CRD's rules say it to the API server, these functions to everybody else."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.allowed import (
    ADAPTER,
    FULL,
    MERGED,
    METHODS,
    RULES,
    ddp_only,
    not_servable,
    published_kind,
    published_lora,
    served_rank,
)
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import AdaLoRA, LoRA, Method, MethodType, Quantization
from finetune_cli import rules
from finetune_cli.cel import compile_rule


def refusals(**changes: Any) -> list[str]:
    """In the words of the spec's own rules, as the API server would answer."""
    document = {
        "model": {"uri": "s3://artifacts/base"},
        "data": {"train": [{"uri": "s3://artifacts/train.jsonl"}]},
        **changes,
    }
    filled = rules.defaulted(rules.schema("FineTuneJob")["properties"]["spec"], document)
    return [rule["message"] for rule in RULES if not compile_rule(rule["rule"])({"self": filled})]


def test_every_method_has_a_row() -> None:
    assert set(METHODS) == set(MethodType)


@pytest.mark.parametrize("name", MethodType)
def test_the_rules_and_the_functions_agree_on_what_is_sharded(name: MethodType) -> None:
    document = {"type": name.value}
    told = refusals(method=document, parallelism={"strategy": "FSDP"})
    alone = ddp_only(Method.model_validate(document))
    assert bool(told) == (alone is not None)
    assert refusals(method=document) == []


@pytest.mark.parametrize("lora", [{"init": "PiSSA"}, {"init": "OLoRA"}, {"modulesToSave": ["lm_head"]}])
def test_what_needs_whole_weights_is_not_sharded(lora: dict[str, Any]) -> None:
    document = {"type": "LoRA", "lora": lora}
    assert ddp_only(Method.model_validate(document))
    (told,) = refusals(method=document, parallelism={"strategy": "FSDP"})
    assert "DDP or Auto" in told
    assert refusals(method=document, parallelism={"strategy": "DDP"}) == []


def test_records_behind_a_prompt_are_not_packed() -> None:
    (told,) = refusals(method={"type": "Prompt"}, data={"packing": True})
    assert "remove data.packing: true" in told
    assert refusals(method={"type": "Prompt"}, data={"packing": False}) == []
    assert refusals(method={"type": "IA3"}, data={"packing": True}) == []


def test_without_a_method_nothing_is_said() -> None:
    assert refusals(trainer={"type": "Custom"}) == []


@pytest.mark.parametrize(
    ("document", "merge", "kind"),
    [
        ({"type": "LoRA"}, True, MERGED),
        ({"type": "LoRA"}, False, ADAPTER),
        ({"type": "Prefix"}, True, ADAPTER),
        ({"type": "FullFineTune"}, False, FULL),
    ],
)
def test_what_is_published(document: dict[str, Any], merge: bool, kind: str) -> None:
    assert published_kind(Method.model_validate(document), merge=merge) == kind


@pytest.mark.parametrize(
    ("quantization", "told"),
    [
        ({"bits": 8, "type": "NF4"}, "INT8 has 8 bits"),
        ({"bits": 4, "type": "INT8"}, "INT8 has 8 bits"),
        ({"bits": 8, "doubleQuant": True}, "doubleQuant belongs to 4 bits"),
        ({"type": "INT8", "doubleQuant": True}, "doubleQuant belongs to 4 bits"),
        ({"bits": 8, "doubleQuant": False}, None),
        ({"bits": 8, "type": "INT8"}, None),
        ({"type": "FP4", "doubleQuant": True}, None),
        ({}, None),
    ],
)
def test_bits_and_types_of_quantization_agree(quantization: dict[str, Any], told: str | None) -> None:
    schema: Any = Quantization.model_json_schema()
    found = [
        rule["message"]
        for rule in schema["x-kubernetes-validations"]
        if not compile_rule(rule["rule"])({"self": quantization})
    ]
    assert [told in words for words in found if told] == ([True] if told else [])
    assert bool(found) == (told is not None)


@pytest.mark.parametrize(
    ("quantization", "kind", "doubled"),
    [
        ({}, "NF4", True),
        ({"bits": 8}, "INT8", False),
        ({"type": "FP4", "doubleQuant": False}, "FP4", False),
    ],
)
def test_what_is_unset_in_quantization(quantization: dict[str, Any], kind: str, doubled: bool) -> None:
    found = Quantization.model_validate(quantization)
    assert (found.kind, found.doubled) == (kind, doubled)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ({"type": "LoRA", "quantization": {}}, "quantization block belongs to type QLoRA"),
        ({"type": "QLoRA", "lora": {"init": "PiSSA"}}, "belong to type LoRA"),
        ({"type": "LoRA", "lora": {"init": "LoftQ"}}, "set type QLoRA, or another init"),
        ({"type": "DoRA", "lora": {"init": "LoftQ"}}, "set type QLoRA, or another init"),
        ({"type": "QLoRA", "lora": {"init": "Gaussian"}, "quantization": {}}, None),
    ],
)
def test_blocks_of_qlora(method: dict[str, Any], told: str | None) -> None:
    schema: Any = Method.model_json_schema()
    found = [r["message"] for r in schema["x-kubernetes-validations"] if not compile_rule(r["rule"])({"self": method})]
    assert len(found) == (told is not None)
    assert all(str(told) in words for words in found)


def test_what_vllm_loads() -> None:
    assert not_servable(Method(type=MethodType.LORA)) is None
    assert "unquantized base" in str(not_servable(Method(type=MethodType.QLORA)))
    assert "DoRA" in str(not_servable(Method(type=MethodType.DORA)))
    assert "lora.modulesToSave" in str(
        not_servable(Method(type=MethodType.LORA, lora=LoRA(modules_to_save=["lm_head"])))
    )
    assert served_rank(LoRA.model_validate({"rank": 16, "init": "PiSSA", "rankPattern": {"q_proj": 20}})) == 40
    assert "512" in str(not_servable(Method(type=MethodType.LORA, lora=LoRA.model_validate({"rank": 600}))))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targetRank": 12}, []),
        ({"targetRank": 13}, ["targetRank is above initialRank"]),
        ({"warmupPercent": 80, "settledPercent": 20}, ["their sum must be below 100"]),
    ],
)
def test_adalora_needs_ranks_to_share_out_and_steps_to_do_it(changes: dict[str, int], words: list[str]) -> None:
    """With the API server's defaults around them."""
    document = AdaLoRA().to_wire() | changes
    schema: Any = AdaLoRA.model_config["json_schema_extra"]
    told = [r["message"] for r in schema["x-kubernetes-validations"] if not compile_rule(r["rule"])({"self": document})]
    assert len(told) == len(words)
    assert all(word in message for word, message in zip(words, told, strict=True))


def test_adalora_is_served_as_a_plain_adapter_of_its_first_rank() -> None:
    method = Method.model_validate({"type": "AdaLoRA", "adaLora": {"initialRank": 20}})
    assert not_servable(method) is None
    assert served_rank(published_lora(method)) == 20


def test_a_pattern_that_is_no_regular_expression_gets_words() -> None:
    with pytest.raises(ValueError, match="is no regular expression"):
        Method.model_validate({"type": "Freeze", "freeze": {"trainable": ["("]}})


def test_a_job_that_was_valid_before_is_valid_still() -> None:
    assert (
        FineTuneJobSpec.model_validate(
            {
                "model": {"uri": "s3://artifacts/base"},
                "data": {"train": [{"uri": "s3://artifacts/train.jsonl"}]},
                "method": {"type": "LoRA", "lora": {"rank": 8}},
            }
        ).method.to_wire()["lora"]["rank"]
        == 8
    )
