"""Columns by other names, templates, cells of text: what a record is made from."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from pydantic import ValidationError

from finetune_api.data import DataSource
from finetune_trainer.data.parts import BadRecord
from finetune_trainer.data.read import BadRecords, read_source
from finetune_trainer.data.records import Conversation, Document, Preference, Record, TextPair
from finetune_trainer.data.shape import from_cells, shape_of
from finetune_trainer.data.sources import NamedSource


def source(**fields: Any) -> DataSource:
    return DataSource.model_validate({"uri": "file:///train.jsonl", **fields})


def record(document: dict[str, Any], **fields: Any) -> Record:
    named = NamedSource("spec.data.train[0]", "train-0", source(**fields), held_out=False)
    stream = io.BytesIO(json.dumps(document).encode())
    (found,) = read_source(stream, named, name="train.jsonl", bad=BadRecords(0), kinds=None)
    return found.record


def test_columns_rename_and_decide_the_format() -> None:
    row = {"question": "q", "answer": "a", "text": "besides", "output": "b"}
    assert record(row, columns={"prompt": "question", "completion": "answer"}) == TextPair("q", "a")
    assert record(row, columns={"text": "answer"}) == Document("a")
    mixed = record({"instruction": "do", "answer": "a"}, columns={"output": "answer"})
    assert isinstance(mixed, TextPair)
    assert mixed.completion == "a"
    pair = record({"prompt": "p", "good": "g", "bad": "b"}, columns={"chosen": "good", "rejected": "bad"})
    assert pair == Preference(TextPair("p", "g"), TextPair("p", "b"))


def test_a_template_writes_text_pairs_and_chats() -> None:
    row = {"q": "2 {x}", "n": 3, "the answer": "5"}
    assert record(row, template={"text": "{q} + {n} = {the answer} {{}}"}) == Document("2 {x} + 3 = 5 {}")
    assert record(row, template={"prompt": "{q}?", "completion": "{n}"}) == TextPair("2 {x}?", "3")
    chat = record(row, template={"system": "Add.", "user": "{q}", "assistant": "{the answer}"})
    assert isinstance(chat, Conversation)
    assert [(t.role, t.content, t.trained) for t in chat.turns] == [
        ("system", "Add.", False),
        ("user", "2 {x}", False),
        ("assistant", "5", True),
    ]


def test_a_template_sees_mapped_names() -> None:
    assert record({"q": "x"}, columns={"input": "q"}, template={"text": "{input}!"}) == Document("x!")


@pytest.mark.parametrize("text", ["{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{}", "{0}", "{a", "a}", "{__class__.x}"])
def test_a_template_is_names_between_braces_and_nothing_else(text: str) -> None:
    with pytest.raises(ValidationError, match=r"not a template|is not a field"):
        source(template={"text": text})


@pytest.mark.parametrize("value", [None, [1], {"a": 1}])
def test_a_template_takes_texts_and_numbers(value: Any) -> None:
    shape = shape_of(source(template={"text": "{a}"}))
    with pytest.raises(BadRecord, match=r"a is .*; a template takes texts and numbers"):
        shape.apply({"a": value})
    with pytest.raises(BadRecord, match="a is missing, which the template names; the record has b, c"):
        shape.apply({"b": 1, "c": 2})


def test_cells_hold_lists_as_json_and_labels_as_words() -> None:
    cells = from_cells({"messages": '[{"role": "user", "content": "[{"}]', "prompt": "[x", "label": "False"})
    assert cells == {"messages": [{"role": "user", "content": "[{"}], "prompt": "[x", "label": False}
