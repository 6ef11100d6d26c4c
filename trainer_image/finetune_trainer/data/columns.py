"""What the spec reads of a record beside its texts: the columns to balance and to order by. Preflight reads them, too,
so there is no numpy here."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from finetune_api.data import Data
from finetune_trainer.data.parts import BadRecord, kind
from finetune_trainer.data.sources import NamedSource


def group_of(document: dict[str, Any], column: str) -> int:
    """A hash of the record's value in the column to balance by. Raises BadRecord when it has none."""
    value = document.get(column)
    if not isinstance(value, str | int):
        found = "is missing" if column not in document else f"is {kind(value)}"
        raise BadRecord(f"{column} {found}, which data.balance.column names; expected a text or a whole number")
    return int.from_bytes(hashlib.blake2b(str(value).encode(), digest_size=8).digest(), "big")


def place_of(document: dict[str, Any], column: str) -> float:
    """The record's number in the column to order by; tables of text hold it as text. Raises BadRecord."""
    value = document.get(column)
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        found = "is missing" if column not in document else f"is {kind(value)}"
        raise BadRecord(f"{column} {found}, which data.curriculum.column names; expected a number")
    return number


def columns_of(document: dict[str, Any], data: Data, named: NamedSource) -> tuple[int | None, float | None]:
    """(group, place in the order), each None where the spec has no use for it. Raises BadRecord."""
    group = place = None
    if data.balance:
        # What is replayed is not balanced, and need not have the column.
        group = 0 if named.replayed or named.aside else group_of(document, data.balance.column)
    if data.curriculum and data.curriculum.column:
        # Nor have held-out records an order.
        place = 0.0 if named.held_out or named.aside else place_of(document, data.curriculum.column)
    return group, place
