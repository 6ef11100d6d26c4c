"""Every token of every document lies in exactly one row, and a row's first token and a document's are never targets."""

from __future__ import annotations

import numpy as np
import pytest

from finetune_trainer.data.wrapped import Wrapped
from tests.trainer.test_engine_isolation import Records

LENGTHS = (3, 8, 1, 5, 4)


def documents() -> Records:
    ids = iter(range(1, 100))
    return Records(
        (np.array([next(ids) for _ in range(n)], dtype=np.int32), np.ones(n, dtype=np.bool_)) for n in LENGTHS
    )


ALONE = {2: {3, 12, 17}, 4: {12, 17}, 7: {11, 12}, 64: {12}}
"""By capacity: tokens that would make a row of their own."""


@pytest.mark.parametrize("join", [True, False])
@pytest.mark.parametrize("capacity", [2, 4, 7, 64])
def test_every_token_lies_in_one_row(join: bool, capacity: int) -> None:
    rows = Wrapped(documents(), capacity, join=join)
    ids = [int(i) for row in rows for i in row[0]]
    lost = set(range(1, sum(LENGTHS) + 1)) - set(ids)
    assert ids == sorted(set(ids))
    assert lost <= ({21} if join else ALONE[capacity])
    assert [len(row[0]) for row in rows] == rows.lengths.tolist()
    assert all(len(row[0]) <= capacity for row in rows)


def test_joined_rows_are_full() -> None:
    rows = Wrapped(documents(), 7, join=True)
    assert rows.lengths.tolist() == [7, 7, 7]
    assert rows.counts.efficiency_percent == 100


def test_positions_begin_anew_with_a_document_and_targets_after_its_first_token() -> None:
    rows = Wrapped(documents(), 7, join=True)
    assert rows.positions(0).tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert rows[0][1].tolist() == [False, True, True, False, True, True, True]
    assert rows.positions(1).tolist() == [0, 1, 2, 3, 0, 0, 1]
    assert rows[1][1].tolist() == [False, True, True, True, False, False, True]


def test_unjoined_rows_hold_one_document_each() -> None:
    rows = Wrapped(documents(), 4, join=False)
    assert rows.lengths.tolist() == [3, 4, 4, 4, 4]
    assert all(np.array_equal(rows.positions(i), np.arange(rows.lengths[i])) for i in range(len(rows)))
