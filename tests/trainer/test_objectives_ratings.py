"""A rated answer is one row, and beside it stands the same prompt with another record's answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune_trainer.engine.batch import without_targets
from finetune_trainer.objectives.ratings import Ratings, collate_ratings
from tests.trainer.test_objectives_pairs import Joined

Written = tuple[list[int], int, bool]
RATED: list[Written] = [
    ([1, 2, 3], 1, True),
    ([5, 6, 7, 8], 2, False),
    ([9, 10, 11, 12, 13], 3, True),
]
"""(ids, prompt tokens, verdict)."""


class Rated(Joined):
    def __init__(self, rated: Sequence[Written]) -> None:
        super().__init__([(ids, at, [], 0) for ids, at, _ in rated])
        self._rated = rated

    def good(self, index: int) -> bool:
        return self._rated[index][2]


def ratings(longest: int = 16, reference: Any = None) -> Ratings:
    return Ratings(Rated(RATED), longest, reference)


def test_every_answer_is_lent_to_exactly_one_other_prompt() -> None:
    found = ratings()
    answers = [tuple(ids[at:]) for ids, at, _ in RATED]
    lent = []
    for index, (ids, at, _) in enumerate(RATED):
        mixed, targets = found.mismatched(index)
        assert mixed[:at].tolist() == ids[:at]
        assert targets.tolist() == [False] * at + [True] * (len(mixed) - at)
        lent.append(tuple(mixed[at:].tolist()))
        assert lent[-1] != answers[index]
    assert sorted(lent) == sorted(answers)


def test_a_borrowed_answer_is_cut_where_rows_end() -> None:
    found = ratings(longest=4)
    assert max(len(found.mismatched(index)[0]) for index in range(3)) == 4
    assert all(found.mismatched(index)[1].any() for index in range(3))


def test_rows_have_their_verdict_and_what_stands_beside_them() -> None:
    known = np.array([[-1, -2], [-3, -4], [-5, -6]], dtype=np.float32)
    batch = collate_ratings(ratings(reference=known), [2, 1], pad_id=0)
    assert batch.ids_bt.tolist() == [[9, 10, 11, 12, 13], [5, 6, 7, 8, 0]]
    assert batch.good_b is not None
    assert batch.good_b.tolist() == [True, False]
    assert batch.reference_b is not None
    assert batch.reference_b.tolist() == [-5, -3]
    assert batch.beside is not None
    assert batch.beside.ids_bt[0, :3].tolist() == [9, 10, 11]
    assert batch.beside.reference_b is not None
    assert batch.beside.reference_b.tolist() == [-6, -4]


def test_an_empty_batch_has_nothing_beside_it() -> None:
    batch = without_targets(collate_ratings(ratings(), [0], pad_id=0))
    assert batch.beside is not None
    assert not batch.targets_bt.any()
    assert not batch.beside.targets_bt.any()
