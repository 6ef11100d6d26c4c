"""Texts with labels: as the data has them, and as numbers of a classifier's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune_api.objective import Head
from finetune_api.objective_classification import Problem
from finetune_trainer.data.parts import BadRecord, kind, text
from finetune_trainer.data.records import Label, Labeled, Record

_EXPECTED = "expected the name of a label, its number, or a list of these"


def labeled(document: dict[str, Any]) -> Labeled:
    """`{text, label}`, where a label is a name, a number or a list of them. Raises BadRecord."""
    if "label" not in document:
        raise BadRecord(f"label is missing; {_EXPECTED}")
    value = document["label"]
    labels = [_label(item, f"label[{i}]") for i, item in enumerate(value)] if isinstance(value, list) else None
    return Labeled(text(document, "text"), tuple(labels) if labels is not None else (_label(value, "label"),))


def _label(value: Any, place: str) -> Label:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, str) and value):
        return value
    raise BadRecord(f"{place} is {kind(value)}; {_EXPECTED}")


def classes(record: Record, head: Head | None) -> tuple[int, ...] | None:
    """A labeled text's labels as numbers of outputs, ascending; None of other records. Raises BadRecord."""
    if head is None or head.problem is None or not isinstance(record, Labeled):
        return None
    found = sorted({_number(label, head.labels) for label in record.labels})
    if head.problem is Problem.SINGLE_LABEL and len(found) != 1:
        raise BadRecord(
            f"label names {len(found)} labels; expected exactly one, or set objective.classification.problem: "
            "MultiLabel"
        )
    return tuple(found)


def _number(label: Label, labels: Sequence[str]) -> int:
    """Names come first: labels that are themselves numbers (`1` to `5` stars) are never counted by place."""
    name = str(label)
    if name in labels:
        return labels.index(name)
    counted = not any(_is_number(known) for known in labels)
    if counted and _is_number(name) and 0 <= int(name) < len(labels):
        return int(name)
    by_number = f", or a number from 0 to {len(labels) - 1}" if counted else ""
    shown = ", ".join(labels)
    raise BadRecord(
        f"label is {name!r:.60}, which objective.classification.labels does not name; expected one of "
        f"{shown:.300}{by_number}"
    )


def _is_number(name: str) -> bool:
    return name.isascii() and name.removeprefix("-").isdecimal()
