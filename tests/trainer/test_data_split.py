"""The split depends on content alone."""

from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.data.records import TextPair, content_digest
from finetune_trainer.data.split import held_out

digests = st.lists(st.integers(0, 2**64 - 1), max_size=50)


@given(digests, st.integers(0, 50))
def test_order_and_duplicates_change_nothing(values: list[int], percent: int) -> None:
    assert held_out(values, percent) == held_out(sorted(values) + values, percent)


@given(digests, st.integers(1, 50))
def test_both_sides_get_something_when_there_are_two(values: list[int], percent: int) -> None:
    chosen = held_out(values, percent)
    assert chosen <= set(values)
    if len(set(values)) >= 2:
        assert chosen
        assert set(values) - chosen


def test_nothing_is_held_out_at_0_percent_or_of_a_single_record() -> None:
    assert held_out([1, 2, 3], 0) == frozenset()
    assert held_out([7, 7, 7], 50) == frozenset()


def test_the_share_is_about_the_percentage_and_adding_records_moves_none() -> None:
    records = [content_digest(TextPair(f"prompt {n}", "answer")) for n in range(4000)]
    first, second = held_out(records[:2000], 5), held_out(records, 5)
    assert 70 <= len(first) <= 130
    assert first <= second


def test_the_digest_is_of_the_content() -> None:
    assert content_digest(TextPair("a", "b")) == content_digest(TextPair("a", "b"))
    assert len({content_digest(TextPair(*p)) for p in (("a", "b"), ("b", "a"), ("ab", ""), ("", "ab"))}) == 4
