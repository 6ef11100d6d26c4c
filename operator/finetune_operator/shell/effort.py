"""How many passes may call the API server at the same time: fewer while it is slow.

A server that is short of CPU answers sixteen calls no sooner than it answers four, one after another: what more of
them bring is only that each takes four times as long, the urgent ones too. So the passes that are no notice get fewer
workers while calls take much longer than the fastest of late, and get them back while they do not. Slow means slow for
this server: one that is far away is never fast, and is not to be spared for it. And half the workers are kept in any
case: on a machine that somebody else keeps busy, three calls in flight brought a sixth less than sixteen did.
"""

from __future__ import annotations

_SLOW = 0.1
"""Seconds below which no call is slow."""
_TIMES = 4.0
"""A call that takes so many times the fastest of late is slow."""
_FORGET = 1.002
"""What the fastest of late grows by with each call."""
_LESS, _MORE = 0.25, 0.1
"""A slow call takes a quarter of a worker away, any other gives a tenth back: two in seven may be slow."""


class Effort:
    """`most` workers; never fewer than half of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._least = max(1, most // 2)
        self._workers = float(most)
        self._fastest = _SLOW

    def took(self, seconds: float) -> int:
        """A call took so long; how many workers there should be now."""
        slow = seconds > max(_SLOW, _TIMES * self._fastest)
        self._fastest = min(seconds, self._fastest * _FORGET)
        wished = self._workers - _LESS if slow else self._workers + _MORE
        self._workers = min(float(self._most), max(float(self._least), wished))
        return round(self._workers)
