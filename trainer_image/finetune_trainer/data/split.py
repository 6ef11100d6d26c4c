"""Which records are held out, decided by their content alone.

A record's digest says on which side it stands, so the answer does not depend on file order, world size or on what
else is in the set, equal records always stand on one side, and a record added later moves no other.
"""

from __future__ import annotations

from collections.abc import Iterable

DEFAULT_PERCENT = 5
_BUCKETS = 10_000


def held_out(digests: Iterable[int], percent: int) -> frozenset[int]:
    """The digests that are held out: about `percent` of the distinct ones.

    With two or more distinct records and a percentage above 0 each side gets at least one: where the hash gives a
    side nothing (small sets), the record with the smallest digest moves there.
    """
    distinct = set(digests)
    if percent <= 0 or len(distinct) < 2:
        return frozenset()
    chosen = {d for d in distinct if d % _BUCKETS < percent * (_BUCKETS // 100)}
    if not chosen:
        chosen = {min(distinct)}
    elif len(chosen) == len(distinct):
        chosen.discard(min(distinct))
    return frozenset(chosen)


def replay_count(rows: int, percent: int) -> int:
    """So many beside `rows` others are `percent` of all; at least one."""
    return max(1, round(rows * percent / (100 - percent)))
