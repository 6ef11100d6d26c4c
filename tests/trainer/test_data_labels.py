"""Labels as data sets write them, and the outputs they stand for."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from finetune_api.data import DataFormat, DataSource
from finetune_api.objective import Head, ObjectiveType
from finetune_api.objective_classification import Problem
from finetune_trainer.data.labels import classes
from finetune_trainer.data.parts import BadRecord
from finetune_trainer.data.purpose import TAKES
from finetune_trainer.data.read import BadRecords, DataError, read_source
from finetune_trainer.data.records import Document, Labeled, Record, content_digest
from finetune_trainer.data.sources import NamedSource
from finetune_trainer.data.validate import validate

ONE = Head(("negative", "neutral", "positive"), Problem.SINGLE_LABEL)
SEVERAL = Head(ONE.labels, Problem.MULTI_LABEL)
STARS = Head(("1", "2", "3"), Problem.SINGLE_LABEL)
LABELED = TAKES[ObjectiveType.CLASSIFICATION]


def labeled(label: Any) -> Record:
    return validate({"text": "t", "label": label}, DataFormat.LABELED)


def read(name: str, content: str, kinds: Any = LABELED, **fields: Any) -> list[Record]:
    source = DataSource.model_validate({"uri": f"file:///{name}", **fields})
    named = NamedSource("spec.data.train[0]", "train-0", source, held_out=False)
    found = read_source(io.BytesIO(content.encode()), named, name=name, bad=BadRecords(0), kinds=kinds)
    return [located.record for located in found]


@pytest.mark.parametrize(
    ("label", "head", "numbers"),
    [
        ("neutral", ONE, (1,)),
        (2, ONE, (2,)),
        ("2", ONE, (2,)),
        (["positive"], ONE, (2,)),
        (["positive", 0, "positive"], SEVERAL, (0, 2)),
        ([], SEVERAL, ()),
        ("neutral", SEVERAL, (1,)),
        (1, STARS, (0,)),
        ("3", STARS, (2,)),
        (True, Head(("false", "true"), Problem.SINGLE_LABEL), (1,)),
    ],
)
def test_names_and_numbers_become_outputs(label: Any, head: Head, numbers: tuple[int, ...]) -> None:
    assert classes(labeled(label), head) == numbers


@pytest.mark.parametrize(
    ("label", "head", "words"),
    [
        ("angry", ONE, "'angry', which objective.classification.labels does not name; expected one of negative, neu"),
        (3, ONE, "label is '3', .* or a number from 0 to 2"),
        (-1, ONE, "label is '-1'"),
        (0, STARS, "expected one of 1, 2, 3$"),
        ([], ONE, "names 0 labels; expected exactly one, or set objective.classification.problem: MultiLabel"),
        (["negative", "positive"], ONE, "names 2 labels"),
    ],
)
def test_a_label_that_is_none_of_them_is_told(label: Any, head: Head, words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        classes(labeled(label), head)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"text": "t"}, "label is missing; expected the name of a label"),
        ({"text": "t", "label": None}, "label is null; expected the name"),
        ({"text": "t", "label": ["a", 1.5]}, r"label\[1\] is .*; expected the name"),
        ({"text": "t", "label": ""}, "label is "),
        ({"label": "a"}, "text is missing"),
        ({"text": " ", "label": "a"}, "text is"),
    ],
)
def test_what_is_no_labeled_text_is_told(document: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        validate(document, DataFormat.LABELED)


def test_the_objective_decides_that_text_with_a_label_is_one() -> None:
    line = json.dumps({"text": "t", "label": "a"})
    assert read("t.jsonl", line) == [Labeled("t", ("a",))]
    assert read("t.jsonl", line, None) == [Document("t")]
    with pytest.raises(DataError, match="which this objective cannot train on"):
        read("t.jsonl", line, TAKES[ObjectiveType.SFT], format="Labeled")
    with pytest.raises(DataError, match=r"this is raw text, .* learns from a labeled text \(text and label"):
        read("t.jsonl", line, format="Text")


def test_labels_come_through_columns_templates_and_cells() -> None:
    row = {"premise": "p", "hypothesis": "h", "gold": 1}
    pair = read("t.jsonl", json.dumps(row), columns={"label": "gold"}, template={"text": "{premise} | {hypothesis}"})
    assert pair == [Labeled("p | h", (1,))]
    assert read("t.jsonl", json.dumps(row), columns={"text": "premise", "label": "gold"}) == [Labeled("p", (1,))]
    table = 'text,label\none,positive\ntwo,"[""a"", ""b""]"\nthree,true\nfour,[urgent]\n'
    found = [record.labels for record in read("t.csv", table) if isinstance(record, Labeled)]
    assert found == [("positive",), ("a", "b"), ("true",), ("[urgent]",)]


def test_records_differ_by_text_and_by_labels() -> None:
    forms = [labeled("a"), labeled(["a", "b"]), labeled(1), Document("t"), Labeled("u", ("a",))]
    assert len({content_digest(record) for record in forms}) == len(forms)
