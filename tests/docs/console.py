"""Finds the commands in our pages.

A fenced block of language `console` holds lines that start with `$ ` (a command) and lines that do not (what it
answers). A second word after `console` says how far a test goes:

    console               paths and make targets have to exist; nothing is run (it needs a cluster, a registry, hours)
    console apiserver     run against a real API server, in a bed where the examples have been applied
    console helm          run with the pinned helm
    console helm-fails    must be refused, in the words that follow
    console cli           run with our Python
    console finetune      run by tests/cli/test_guide.py on a tiny model, one after the other
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
KINDS = ("", "apiserver", "helm", "helm-fails", "cli", "finetune")
_BLOCK = re.compile(r"^```console(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    page: Path
    kind: str
    text: str
    answer: tuple[str, ...]
    """Lines the page shows below it."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPO)}: {self.text}"


def pages() -> list[Path]:
    return [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").rglob("*.md"))]


def commands(page: Path) -> Iterator[Command]:
    for kind, body in _BLOCK.findall(page.read_text()):
        text: str | None = None
        answer: list[str] = []
        for line in [*body.splitlines(), "$ "]:
            if line.startswith("$ "):
                if text is not None:
                    yield Command(page, kind, text, tuple(answer))
                text, answer = line[2:], []
            else:
                answer.append(line)


def all_commands(*kinds: str) -> list[Command]:
    return [c for page in pages() for c in commands(page) if not kinds or c.kind in kinds]
