"""Where words go: people read them on stderr or stdout, programs read one JSON document on stdout."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

TEXT, JSON = "text", "json"


class Voice:
    """With `--output json` nothing but the document is on stdout."""

    def __init__(self, output: str) -> None:
        self.json = output == JSON
        # The stream itself: preflight's stdout is redirected to this console.
        self.console = Console(file=sys.stderr if self.json else sys.stdout, highlight=False, soft_wrap=True)

    def line(self, text: str, style: str | None = None) -> None:
        self.console.print(text, style=style, markup=False)

    def stage(self, name: str, text: str, style: str = "cyan") -> None:
        """One line of a run's story: its stage at the margin."""
        self.console.print(f"[bold {style}]{name:>10}[/]  ", end="")
        self.console.print(text, markup=False)

    def document(self, value: Any) -> None:
        if self.json:
            print(json.dumps(value, indent=2, ensure_ascii=False))
