"""One line per step with its time: what is going on, and how long each part took, in a terminal or a CI log alike.

A terminal gets a spinner that becomes the line; anything else gets plain lines, and a sign of life during long steps,
because a CI log without one looks like a hang.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console

SIGN_OF_LIFE_EVERY = 30.0


class Step:
    """Handed to the body of a step; `note` adds a remark to its line."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.started = time.monotonic()

    def note(self, remark: str) -> None:
        self.text = f"{self.text.split(' · ')[0]} · {remark}"

    def line(self, outcome: str = "") -> str:
        return f"{time.monotonic() - self.started:7.1f} s  {outcome}{self.text}"


class Progress:
    """Prints steps to `stream`; `times` keeps (text, seconds) for a summary. Steps of two threads may overlap."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.times: list[tuple[str, float]] = []
        self._started = time.monotonic()
        self._console = Console(file=self.stream, highlight=False, markup=False)
        self._spinner = threading.Lock()

    @property
    def seconds(self) -> float:
        """Since the first line."""
        return time.monotonic() - self._started

    @contextmanager
    def step(self, text: str) -> Iterator[Step]:
        step, over = Step(text), threading.Event()
        body = self._spin if self.stream.isatty() else self._sign_of_life
        display = threading.Thread(target=body, args=(step, over), daemon=True)
        display.start()
        outcome = "FAILED: "
        try:
            yield step
            outcome = ""
        finally:
            over.set()
            display.join()
            self.times.append((step.text, time.monotonic() - step.started))
            self._print(step.line(outcome))

    def _print(self, line: str) -> None:
        if self.stream.isatty():
            self._console.print(line, soft_wrap=True)  # above a spinner that may be turning
        else:
            print(line, file=self.stream, flush=True)

    def _sign_of_life(self, step: Step, over: threading.Event) -> None:
        while not over.wait(SIGN_OF_LIFE_EVERY):
            self._print(f"{step.line()} …")

    def _spin(self, step: Step, over: threading.Event) -> None:
        if not self._spinner.acquire(blocking=False):
            return  # a terminal has room for one; this step shows up when it is done
        try:
            with self._console.status(step.line()) as status:
                while not over.wait(0.5):
                    status.update(step.line())
        finally:
            self._spinner.release()
