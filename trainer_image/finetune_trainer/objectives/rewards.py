"""What an answer is worth by rules that can be checked, each 1 or 0 (Lambert et al. 2024, "Tulu 3", section 6)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from finetune_api.objective_policy import RewardFunction, RewardType

_NUMBER = re.compile(r"(?:(?<!\d)-)?\d[\d,]*(?:\.\d+)?")
"""A hyphen between two numbers is no sign."""


def fits(function: RewardFunction, answer: str, reference: str) -> bool:
    """`reference`: the record's own answer. Both without white space at the ends."""
    match function.type:
        case RewardType.EXACT_MATCH:
            return answer == reference
        case RewardType.CONTAINS:
            return reference in answer
        case RewardType.NUMBER:
            wanted = last_number(reference)
            return wanted is not None and last_number(answer) == wanted
        case RewardType.REGEX:
            return re.search(function.pattern or "", answer, re.DOTALL) is not None
        case RewardType.MODEL:
            raise ValueError("a reward model is asked, see objectives.judge")


def last_number(text: str) -> Decimal | None:
    """`1,234.50` is 1234.5; None where there is no number."""
    found = _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None


def names(functions: Sequence[RewardFunction]) -> tuple[str, ...]:
    """As metrics have them: `rewardRegex`, and from the second of a type on `rewardRegex2`."""
    kinds = [function.type for function in functions]
    before = [kinds[: place + 1].count(kind) for place, kind in enumerate(kinds)]
    return tuple(f"reward{kind}{count if count > 1 else ''}" for kind, count in zip(kinds, before, strict=True))
