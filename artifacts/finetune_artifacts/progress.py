"""How far a transfer is: a bar for a person at a terminal, a line every few seconds in a pod's log."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

logger = logging.getLogger(__name__)


def amount(count: float) -> str:
    """Bytes for people: 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


class LineProgress:
    """Adds up bytes from any thread and logs at most one line per `interval` seconds."""

    def __init__(
        self,
        label: str,
        total: int | None,
        *,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        log: Callable[[str], None] = logger.info,
    ) -> None:
        self.label, self.total, self.interval, self.clock, self.log = label, total, interval, clock, log
        self.done = 0
        self._lock = threading.Lock()
        self._begin = self._last = clock()

    def __call__(self, count: int) -> None:
        with self._lock:
            self.done += count
            now = self.clock()
            if now - self._last < self.interval:
                return
            self._last = now
            line = self._line(now)
        self.log(line)

    def _line(self, now: float) -> str:
        rate = self.done / max(now - self._begin, 1e-9)
        if self.total is None:
            return f"{self.label}: {amount(self.done)}, {amount(rate)}/s"
        left = f"{max(self.total - self.done, 0) / rate:.0f} s left" if rate > 0 else "waiting"
        return f"{self.label}: {amount(self.done)} of {amount(self.total)}, {amount(rate)}/s, {left}"

    def finish(self) -> None:
        seconds = max(self.clock() - self._begin, 1e-9)
        self.log(f"{self.label}: {amount(self.done)} in {seconds:.1f} s, {amount(self.done / seconds)}/s")


@contextmanager
def show_progress(
    label: str, total: int | None = None, *, stream: TextIO | None = None
) -> Iterator[Callable[[int], None]]:
    """A callback for `progress=` of every transfer; bar or log lines as the stream (stderr) allows."""
    stream = stream or sys.stderr
    if not stream.isatty():
        line = LineProgress(label, total)
        yield line
        line.finish()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=stream)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)
