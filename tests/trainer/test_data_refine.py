"""What is taken out of records and of the set, by hand-made cases."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from finetune_api.data import Data
from finetune_api.datafilters import PiiKind, QualityFilter
from finetune_trainer.data import texts
from finetune_trainer.data.records import (
    Conversation,
    Document,
    Preference,
    Rated,
    Record,
    TextPair,
    Turn,
)
from finetune_trainer.data.refine import Refiner, changed, parts

TALK = Conversation(
    (Turn("user", "q", False), Turn("assistant", "a", True), Turn("user", "r", False), Turn("assistant", "b", True))
)


def data(**fields: Any) -> Data:
    return Data.model_validate({"train": [{"uri": "file:///a.jsonl"}], **fields})


def refined(record: Record, **fields: Any) -> Record | None:
    return Refiner(data(**fields)).apply(record)


def test_nothing_asked_nothing_done() -> None:
    record = TextPair("<b>q</b>", "<think>x</think>a")
    assert refined(record) is record


def test_reasoning_is_stripped_from_what_is_learned_only() -> None:
    record = TextPair("<think>kept</think>q", "<think>one\ntwo</think>\n\nanswer")
    assert refined(record, reasoning="Strip") == TextPair("<think>kept</think>q", "answer")
    assert refined(record, reasoning="Keep") == record
    refiner = Refiner(data(reasoning="Strip"))
    assert refiner.apply(TextPair("q", "<think>only</think>")) is None
    assert refiner.left_out == {"Reasoning": 1}


def test_completion_trains_the_last_turn_alone() -> None:
    found = refined(TALK, trainOn="Completion")
    assert isinstance(found, Conversation)
    assert [t.trained for t in found.turns] == [False, False, False, True]
    assert refined(TALK, trainOn="Assistant") == TALK


@pytest.mark.parametrize(
    ("low", "high", "kept"), [(1, None, True), (5, None, False), (None, 4, True), (None, 3, False)]
)
def test_length_counts_all_texts(low: int | None, high: int | None, kept: bool) -> None:
    limits = {k: v for k, v in (("minCharacters", low), ("maxCharacters", high)) if v}
    refiner = Refiner(data(filters=[{"type": "Length", "length": limits}]))
    assert (refiner.apply(TALK) is not None) is kept
    assert refiner.left_out["Length"] == (not kept)


def test_filters_drop_or_clean_and_count() -> None:
    dirty = TextPair("mail <b>me</b>", "at\x00 jane.doe@example.org now")
    for kind in ("HTML", "ControlCharacters", "PII"):
        assert refined(dirty, filters=[{"type": kind}]) is None
    all_three = [{"type": kind, "action": "Clean"} for kind in ("HTML", "ControlCharacters", "PII")]
    refiner = Refiner(data(filters=all_three))
    assert refiner.apply(dirty) == TextPair("mail me", "at [EMAIL] now")
    assert refiner.cleaned == {"HTML": 1, "ControlCharacters": 1, "PII": 1}
    assert refiner.apply(TextPair("q", "<br>")) is None
    assert refiner.left_out == {"HTML": 1}
    assert refiner.apply(TALK) is TALK


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "Length"},
        {"type": "HTML", "length": {"minCharacters": 1}},
        {"type": "Length", "length": {"minCharacters": 1}, "action": "Clean"},
        {"type": "PII", "quality": {"minWords": 1}},
    ],
)
def test_blocks_belong_to_their_type(wrong: dict[str, Any]) -> None:
    """The API server's rule, as `finetune validate` evaluates it."""
    from finetune_cli import rules

    spec = {"model": {"uri": "file:///m"}, "method": {"type": "LoRA"}, "data": {"train": [{"uri": "file:///a"}]}}
    job = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "a"}, "spec": spec}
    schema = rules.schema("FineTuneJob")
    assert not list(rules.broken(schema, rules.defaulted(schema, job)))
    spec["data"]["filters"] = [wrong]  # type: ignore[index]
    assert list(rules.broken(schema, rules.defaulted(schema, job)))


@pytest.mark.parametrize("weight", ["0", "101", "-1", "x"])
def test_a_weight_is_positive_and_bounded(weight: str) -> None:
    with pytest.raises(ValidationError):
        data(train=[{"uri": "file:///a.jsonl", "weight": weight}])


EVERY: list[Record] = [
    TALK,
    TextPair("q", "a"),
    Document("d"),
    Preference(TextPair("q", "a"), TextPair("q", "b")),
    Rated(TextPair("q", "a"), True),
]


@pytest.mark.parametrize("record", EVERY, ids=lambda r: type(r).__name__)
def test_every_record_can_be_changed_text_by_text(record: Record) -> None:
    louder = changed(record, lambda text, trained: text.upper())
    assert [text for text, _ in parts(louder)] == [text.upper() for text, _ in parts(record)]
    assert changed(record, lambda text, _: text) == record


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<p>a<br/>b</p>", "ab"),
        ("<script>x < 1</script>a<!-- b -->", "a"),
        ("a < b and List<int> and <|user|> and <think>", "a < b and List<int> and <|user|> and <think>"),
    ],
)
def test_html(before: str, after: str) -> None:
    assert texts.without_html(before) == after


def test_control_characters() -> None:
    assert texts.without_control_characters("a\tb\r\n\x07\u200bc\x9f") == "a\tb\r\nc"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("write to a.b+c@mail.example.co.uk.", "write to [EMAIL]."),
        ("card 4111 1111 1111 1111!", "card [CARD]!"),
        ("card 4111 1111 1111 1112!", "card 4111 1111 1111 1112!"),
        ("order 0000000000000000", "order 0000000000000000"),
        ("pay DE89 3704 0044 0532 0130 00 today", "pay [IBAN] today"),
        ("pay DE88 3704 0044 0532 0130 00 today", "pay DE88 3704 0044 0532 0130 00 today"),
        ("call +49 30 123456 or (030) 123456", "call [PHONE] or [PHONE]"),
        ("from 10.0.0.1, version 1.2.3.4.5, 999.1.1.1", "from [IP], version 1.2.3.4.5, 999.1.1.1"),
        ("in 2024-01-31 we sold 1234567 for 12.50", "in 2024-01-31 we sold 1234567 for 12.50"),
    ],
)
def test_personal_data(before: str, after: str) -> None:
    assert texts.without_personal_data(before) == after


def test_only_the_kinds_that_are_asked_for() -> None:
    assert texts.without_personal_data("a@b.org 10.0.0.1", [PiiKind.IP_ADDRESS]) == "a@b.org [IP]"


@pytest.mark.parametrize(
    ("text", "limits", "good"),
    [
        ("one two", {"minWords": 2}, True),
        ("one", {"minWords": 2}, False),
        ("ab12", {"minLettersPercent": 50}, True),
        ("a ###", {"minLettersPercent": 50}, False),
        ("Größe 東京", {"minLettersPercent": 100}, True),
        ("a\na\nb\n", {"maxRepeatedLinesPercent": 34}, True),
        ("a\na\na\nb", {"maxRepeatedLinesPercent": 34}, False),
    ],
)
def test_quality(text: str, limits: dict[str, int], good: bool) -> None:
    assert texts.good(text, QualityFilter.model_validate(limits)) is good
