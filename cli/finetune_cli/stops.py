"""Ctrl-C: the first asks for an agreed stop, the second ends everything at once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stops:
    """Counts signals while it is entered."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> Stops:
        for number in ASKED:
            self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
