"""Preferences and verdicts as records of the kind that SFT trains."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from finetune_api.data import DataFormat
from finetune_api.objective import ObjectiveType
from finetune_trainer.data.parts import BadRecord
from finetune_trainer.data.purpose import TAKES, require
from finetune_trainer.data.records import (
    Conversation,
    Document,
    Preference,
    Rated,
    TextPair,
    Turn,
    content_digest,
)
from finetune_trainer.data.validate import validate

Q, A, B = ({"role": r, "content": c} for r, c in (("user", "q"), ("assistant", "a"), ("assistant", "b")))


def pair(**document: Any) -> Any:
    return validate(document, DataFormat.PREFERENCE)


def roles(record: Any) -> list[tuple[str, bool]]:
    return [(t.role, t.trained) for t in record.turns]


def test_texts() -> None:
    assert pair(prompt="q", chosen="a", rejected="b") == Preference(TextPair("q", "a"), TextPair("q", "b"))


@pytest.mark.parametrize(
    "document",
    [
        {"prompt": [Q], "chosen": [A], "rejected": [B]},
        {"prompt": "q", "chosen": [A], "rejected": [B]},
        {"prompt": "q", "chosen": [Q, A], "rejected": [Q, B]},
        {"chosen": [Q, A], "rejected": [Q, B]},
    ],
)
def test_conversations_share_what_is_not_trained(document: dict[str, Any]) -> None:
    found = pair(**document)
    assert roles(found.chosen) == roles(found.rejected) == [("user", False), ("assistant", True)]
    assert found.chosen.turns[0] == found.rejected.turns[0]


def test_earlier_answers_that_both_share_are_prompt() -> None:
    found = pair(chosen=[Q, A, Q, A], rejected=[Q, A, Q, B])
    assert roles(found.chosen) == [("user", False), ("assistant", False), ("user", False), ("assistant", True)]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"prompt": "q", "chosen": "a"}, "rejected is missing"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "the same answer"),
        ({"prompt": "q", "chosen": [A], "rejected": "b"}, "rejected is a string while chosen is a list"),
        ({"chosen": "a", "rejected": "b"}, "prompt is missing"),
        ({"chosen": [A], "rejected": [B]}, "do not begin alike"),
        ({"prompt": [Q], "chosen": "a", "rejected": "b"}, "prompt is a list of messages"),
        ({"prompt": [Q], "chosen": [Q], "rejected": [B]}, "chosen has no turn of the role 'assistant'"),
        ({"prompt": "q", "completion": "a", "label": "yes"}, "label is a string; expected true"),
    ],
)
def test_what_cannot_be_compared_is_refused(document: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        pair(**document)


def test_an_answer_with_a_verdict() -> None:
    assert pair(prompt="q", completion="a", label=True) == Rated(TextPair("q", "a"), True)


EVERY = [
    Conversation((Turn("user", "q", False), Turn("assistant", "a", True))),
    TextPair("q", "a"),
    Document("q"),
    pair(prompt="q", chosen="a", rejected="b"),
    pair(prompt="q", chosen="b", rejected="a"),
    Rated(TextPair("q", "a"), True),
    Rated(TextPair("q", "a"), False),
]


def test_no_two_records_have_one_digest() -> None:
    assert all(content_digest(a) != content_digest(b) for a, b in combinations(EVERY, 2))


def test_sft_takes_what_it_can_learn_to_write() -> None:
    for record in EVERY[:3]:
        require(record, TAKES[ObjectiveType.SFT])
    for record in EVERY[3:]:
        with pytest.raises(BadRecord, match="which this objective cannot train on; it learns from a conversation"):
            require(record, TAKES[ObjectiveType.SFT])
