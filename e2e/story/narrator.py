"""How the story is told: headings, the commands a user would type, a live line of status, a table at the end."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.status import Status
from rich.table import Table

_PLAIN_EVERY = 10.0


class Narrator:
    """Rich on a terminal, plain lines elsewhere. `quiet` says only what changed (tests)."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
        self._quiet = quiet
        self._began = time.monotonic()
        self._live: Status | None = None
        self._last = ("", 0.0)

    def chapter(self, letter: str, title: str, text: str = "") -> None:
        self.settle()
        self.console.print()
        self.console.print(Panel(text or title, title=f"{letter}  {title}", title_align="left", border_style="cyan"))

    def say(self, text: str) -> None:
        self.settle()
        self.console.print(f"[dim]{self._clock()}[/dim] {escape(text)}")

    def command(self, text: str) -> None:
        self.settle()
        self.console.print(f"[dim]{self._clock()}[/dim] [bold green]$ {escape(text)}[/bold green]")

    def output(self, text: str, *, limit: int = 40) -> None:
        self.settle()
        for line in text.rstrip().splitlines()[:limit]:
            self.console.print(f"         [dim]│[/dim] {escape(line)}")

    def good(self, text: str) -> None:
        self.settle()
        self.console.print(f"[dim]{self._clock()}[/dim] [bold green]✔[/bold green] {escape(text)}")

    def live(self, text: str) -> None:
        """The state of a wait, repainted in place; without a terminal printed when it changes, at most every 10 s."""
        if self.console.is_terminal and not self._quiet:
            if self._live is None:
                self._live = self.console.status("")
                self._live.start()
            self._live.update(f"[dim]{self._clock()}[/dim] {escape(text)}")
            return
        before, when = self._last
        if text != before and time.monotonic() - when >= _PLAIN_EVERY:
            self.console.print(f"{self._clock()}   … {escape(text)}")
            self._last = (text, time.monotonic())

    def settle(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def table(self, title: str, columns: list[str], rows: list[list[Any]]) -> None:
        self.settle()
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(escape(str(cell)) for cell in row))
        self.console.print(table)

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60:3d}:{seconds % 60:02d}"
