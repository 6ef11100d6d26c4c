"""What a person sees while a model trains: a bar and the loss on a terminal, a line now and then in a log."""

from __future__ import annotations

import time

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from finetune_api.duration import format_seconds
from finetune_api.reports import Progress as Report
from finetune_api.reports import Stage
from finetune_cli.plot import Points, curve
from finetune_cli.say import Voice

LINE_EVERY_SECONDS = 15.0
PLOT_EVERY_SECONDS = 1.0
_WORDS = {
    Stage.FETCHING: "fetching",
    Stage.STARTING: "starting",
    Stage.TRAINING: "training",
    Stage.SAVING: "saving",
    Stage.STOPPING: "stopping",
    Stage.DONE: "done",
}


def numbers(report: Report) -> str:
    """Loss, speed and time left, as far as they are known."""
    found = []
    if report.loss is not None:
        found.append(f"loss {report.loss:.3f}")
    if report.tokens_per_second is not None:
        found.append(f"{report.tokens_per_second:,.0f} tokens/s")
    if report.eta_seconds is not None and report.stage is Stage.TRAINING:
        found.append(f"ETA {format_seconds(report.eta_seconds)}")
    return " · ".join(found)


class Screen:
    """Entered for the time of one attempt."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._bar = Progress(
            TextColumn("[bold cyan]{task.description:>10}[/]"),
            BarColumn(bar_width=32),
            TextColumn("{task.fields[steps]}"),
            TextColumn("{task.fields[numbers]}"),
            console=voice.console,
        )
        self._task: TaskID = self._bar.add_task("starting", total=None, steps="", numbers="")
        self._live: Live | None = None
        self._points: Points = []
        self._said: tuple[str, int] | None = None
        self._said_at = self._drawn_at = 0.0
        self.note: str | None = None
        """Stands below the bar."""

    def __enter__(self) -> Screen:
        if self._voice.console.is_terminal:
            self._live = Live(console=self._voice.console, refresh_per_second=5, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)

    def wants_points(self) -> bool:
        """At most once a second: the file of losses grows with the run."""
        return self._live is not None and time.monotonic() - self._drawn_at > PLOT_EVERY_SECONDS

    def show(self, report: Report | None, points: Points | None = None) -> None:
        if points is not None:
            self._points, self._drawn_at = points, time.monotonic()
        if report is None:
            word, step, total, text = "starting", 0, 0, ""
        else:
            word, step, total, text = _WORDS[report.stage], report.step, report.total_steps, numbers(report)
        if self._live is None:
            self._line(word, step, total, text)
            return
        steps = f"{step:,}/{total:,}" if total else ""
        self._bar.update(self._task, description=word, completed=step, total=total or None, steps=steps, numbers=text)
        size = self._voice.console.size
        plot = curve(self._points, width=min(64, size.width - 14), height=8) if size.height >= 20 else ""
        note = Text(f"            {self.note}", style="yellow") if self.note else Text()
        self._live.update(Group(self._bar, note, Text(plot, style="green")))

    def _line(self, word: str, step: int, total: int, text: str) -> None:
        now = time.monotonic()
        if self._said == (word, step) or (
            self._said is not None and self._said[0] == word and now - self._said_at < LINE_EVERY_SECONDS
        ):
            return
        self._said, self._said_at = (word, step), now
        steps = f"step {step:,} of {total:,}" if total else ""
        self._voice.stage(word, " · ".join(part for part in (steps, text) if part))
