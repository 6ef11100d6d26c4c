"""A pair is one example and two rows, in an order that the objective can rely on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune_trainer.objectives.pairs import Pairs, collate_pairs

Written = tuple[list[int], int, list[int], int]


class Joined:
    """As the encoded data holds pairs."""

    def __init__(self, written: Sequence[Written]) -> None:
        self._written = written

    def __len__(self) -> int:
        return len(self._written)

    def __getitem__(self, index: int) -> Any:
        chosen, first, rejected, second = self._written[index]
        targets = [i >= first for i in range(len(chosen))] + [i >= second for i in range(len(rejected))]
        return np.array(chosen + rejected, dtype=np.int32), np.array(targets, dtype=np.bool_)

    def second(self, index: int) -> int:
        return len(self._written[index][0])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.array([len(chosen) + len(rejected) for chosen, _, rejected, _ in self._written], dtype=np.int64)

    @property
    def digests(self) -> npt.NDArray[np.uint64]:
        return np.arange(len(self._written), dtype=np.uint64)


def joined(written: Sequence[Written]) -> Joined:
    return Joined(written)


PAIRS: list[Written] = [([1, 2, 3], 1, [1, 4], 1), ([5, 6], 1, [5, 7, 8, 9], 1)]


def test_a_pair_comes_apart_where_the_second_answer_begins() -> None:
    (chosen, _), (rejected, targets) = Pairs(joined(PAIRS)).pair(1)
    assert (chosen.tolist(), rejected.tolist()) == ([5, 6], [5, 7, 8, 9])
    assert targets.tolist() == [False, True, True, True]


def test_rows_are_the_chosen_answers_and_then_the_rejected_ones() -> None:
    batch = collate_pairs(Pairs(joined(PAIRS)), [1, 0], pad_id=0)
    assert batch.ids_bt.tolist() == [[5, 6, 0, 0], [1, 2, 3, 0], [5, 7, 8, 9], [1, 4, 0, 0]]
    assert batch.targets_bt.sum(1).tolist() == [1, 2, 3, 1]
    assert batch.reference_b is None


def test_what_the_base_said_stands_beside_its_row() -> None:
    known = np.array([[-1.0, -2.0], [-3.0, -4.0]], dtype=np.float32)
    batch = collate_pairs(Pairs(joined(PAIRS), known), [1, 0], pad_id=0)
    assert batch.reference_b is not None
    assert batch.reference_b.tolist() == [-3.0, -1.0, -4.0, -2.0]
