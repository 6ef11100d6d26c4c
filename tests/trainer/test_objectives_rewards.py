"""What an answer is worth, case by case."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from finetune_api.objective_policy import GRPOSettings, RewardFunction
from finetune_trainer.objectives.rewards import fits, last_number, names


def function(kind: str, **fields: Any) -> RewardFunction:
    return RewardFunction.model_validate({"type": kind, **fields})


@pytest.mark.parametrize(
    ("kind", "answer", "reference", "good"),
    [
        ("ExactMatch", "billing", "billing", True),
        ("ExactMatch", "billing.", "billing", False),
        ("Contains", "It is billing.", "billing", True),
        ("Contains", "It is Billing.", "billing", False),
        ("Number", "2 and 2 make 4.", "The answer is 4", True),
        ("Number", "1,234.50", "1234.5", True),
        ("Number", "-4", "4", False),
        ("Number", "four", "4", False),
        ("Number", "4", "four", False),
    ],
)
def test_an_answer_fits_the_records_own(kind: str, answer: str, reference: str, good: bool) -> None:
    assert fits(function(kind), answer, reference) is good


def test_a_pattern_is_found_over_line_breaks() -> None:
    thought = function("Regex", pattern=r"^<think>.*</think>\s*\S")
    assert fits(thought, "<think>a\nb</think>\nc", "")
    assert not fits(thought, "c <think></think> d", "")


def test_the_last_number_counts() -> None:
    texts = ("3 of 10", "none", "$1,000", "-2.5%", "10-4", "from 3 to -4", "0.10")
    assert [last_number(text) for text in texts] == [10, None, 1000, -2.5, 4, -4, Decimal("0.1")]
    assert last_number("9" * 400) != last_number("9" * 401), "however large"


def test_metrics_are_named_by_function() -> None:
    found = names([function("Regex", pattern="a"), function("Number"), function("Regex", pattern="b", weight="-1")])
    assert found == ("rewardRegex", "rewardNumber", "rewardRegex2")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rewards": []}, "at least 1"),
        ({"rewards": [{"type": "Regex", "pattern": "("}]}, "not a regular expression of Python"),
        ({"rewards": [{"type": "Number"}], "generations": 1}, "greater than or equal to 2"),
        ({"rewards": [{"type": "Number"}], "temperature": "0"}, "pattern"),
    ],
)
def test_what_has_no_meaning_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GRPOSettings.model_validate(fields)
