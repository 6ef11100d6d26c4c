import itertools

import pytest

from finetune_operator.shell.lanes import Lane, Turns, limits

ALL = list(Lane)


def test_some_workers_are_free_for_what_matters_more() -> None:
    assert limits(16) == {Lane.NOTICE: 16, Lane.CHANGE: 12, Lane.WORK: 10, Lane.PROGRESS: 4}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_few_workers_still_serve_every_lane(workers: int) -> None:
    assert all(1 <= count <= workers for count in limits(workers).values())


def test_the_most_urgent_goes_first() -> None:
    turns = Turns(16)
    assert turns.choose(ALL) is Lane.NOTICE
    assert turns.choose([Lane.WORK, Lane.PROGRESS]) is Lane.WORK
    assert turns.choose([]) is None


def test_a_lane_may_not_hold_workers_that_are_kept_for_others() -> None:
    turns = Turns(16)
    for _ in range(4):
        turns.took(Lane.PROGRESS, [])
    assert turns.choose([Lane.PROGRESS]) is None
    for _ in range(6):
        turns.took(Lane.WORK, [])
    assert turns.choose([Lane.WORK, Lane.PROGRESS]) is None
    assert turns.choose([Lane.CHANGE]) is Lane.CHANGE
    turns.ended(Lane.PROGRESS)
    assert turns.choose([Lane.WORK, Lane.PROGRESS]) is Lane.WORK


def test_who_was_passed_over_long_enough_goes_next() -> None:
    turns = Turns(16)
    order = []
    for _ in range(200):
        lane = turns.choose(ALL)
        assert lane is not None
        turns.took(lane, ALL)
        turns.ended(lane)
        order.append(lane)
    assert order.count(Lane.NOTICE) >= 140
    for lane, longest in {Lane.CHANGE: 11, Lane.WORK: 11, Lane.PROGRESS: 19}.items():
        turned = [-1, *(n for n, other in enumerate(order) if other is lane)]
        assert max(b - a for a, b in itertools.pairwise(turned)) <= longest


def test_who_has_no_key_is_not_passed_over() -> None:
    turns = Turns(16)
    for _ in range(30):
        turns.took(Lane.NOTICE, [])
        turns.ended(Lane.NOTICE)
    assert turns.choose([Lane.NOTICE, Lane.PROGRESS]) is Lane.NOTICE


def test_eased_all_but_notices_get_fewer_workers() -> None:
    turns = Turns(16)
    turns.ease(4)
    for _ in range(3):
        turns.took(Lane.WORK, [])
    assert turns.choose([Lane.CHANGE, Lane.WORK]) is None
    assert turns.choose([Lane.NOTICE]) is Lane.NOTICE
    turns.ease(16)
    assert turns.choose([Lane.CHANGE, Lane.WORK]) is Lane.CHANGE
