"""Reads metrics.jsonl as it grows: the trackers see what the run writes down, and the run knows nothing of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True)
class Point:
    step: int
    milliseconds: int
    """Since 1970."""
    values: dict[str, float]


class Tail:
    """New lines since the last call; a line that is half written waits for its end."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def read(self) -> list[Point]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [point for line in whole.splitlines() if (point := _point(line))]


def _point(line: bytes) -> Point | None:
    try:
        fields = json.loads(line)
        at = datetime.fromisoformat(fields.pop("at"))
        step = int(fields.pop("step"))
    except (ValueError, KeyError, TypeError):
        return None
    values = {name: float(value) for name, value in fields.items() if isinstance(value, int | float)}
    return Point(step, int(at.timestamp() * 1000), values)
