"""Best-fit packing: every record once, no row too long, the same whatever the order of the records."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.data.packing import Packing, best_fit

CAPACITY = 64
LENGTHS = st.lists(st.integers(1, CAPACITY), max_size=200)


def packed(lengths: list[int], digests: list[int] | None = None, capacity: int = CAPACITY) -> Packing:
    names = range(len(lengths)) if digests is None else digests
    return best_fit(np.array(lengths, dtype=np.int64), np.array(names, dtype=np.uint64), capacity)


def rows(packing: Packing) -> list[list[int]]:
    return [packing.row(i).tolist() for i in range(len(packing))]


@given(LENGTHS)
def test_every_record_exactly_once_and_no_row_too_long(lengths: list[int]) -> None:
    found = rows(packed(lengths))
    assert sorted(record for row in found for record in row) == list(range(len(lengths)))
    assert all(row and sum(lengths[record] for record in row) <= CAPACITY for row in found)


@given(LENGTHS)
def test_no_two_rows_fit_into_one(lengths: list[int]) -> None:
    fill = sorted(sum(lengths[record] for record in row) for row in rows(packed(lengths)))
    assert len(fill) < 2 or fill[0] + fill[1] > CAPACITY


@given(st.lists(st.tuples(st.integers(1, CAPACITY), st.integers(0, 2**64 - 1)), unique_by=lambda r: r[1]), st.randoms())
def test_the_order_of_the_records_does_not_matter(records: list[tuple[int, int]], random: object) -> None:
    shuffled = list(records)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    def contents(chosen: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        packing = packed([length for length, _ in chosen], [digest for _, digest in chosen])
        return [[chosen[record] for record in row] for row in rows(packing)]

    assert contents(records) == contents(shuffled)


def test_the_fullest_row_that_fits_is_taken() -> None:
    # 7 leaves 3, 6 leaves 4: the 3 belongs to the 7, the 4 to the 6.
    assert rows(packed([3, 6, 4, 7], capacity=10)) == [[3, 0], [1, 2]]


def test_too_long_is_said() -> None:
    with pytest.raises(ValueError, match="a record has 65 tokens, a row takes 64"):
        packed([65])


def test_nothing_gives_no_rows() -> None:
    assert len(packed([])) == 0


def test_hearts_beat_meanwhile() -> None:
    beats: list[int] = []
    best_fit(np.full(10_000, 3), np.arange(10_000, dtype=np.uint64), CAPACITY, beats.append)
    assert sum(beats) == 8192


@pytest.mark.parametrize("index", [-1, 2])
def test_a_row_that_is_not_there(index: int) -> None:
    with pytest.raises(IndexError):
        packed([60, 60]).row(index)
