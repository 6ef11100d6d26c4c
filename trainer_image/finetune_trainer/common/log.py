"""One line per event on stdout: JSON, so that a log collector needs no parser of ours."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from finetune_trainer.common.clock import timestamp

_context: dict[str, Any] = {}
_lock = threading.Lock()


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def bind(**fields: Any) -> None:
    """Adds fields (index, rank, attempt) to every later line of this process."""
    _context.update(fields)


def event(message: str, *, level: str = "info", **fields: Any) -> None:
    """Writes one line. Values must not be secrets; exceptions are written as their text."""
    named = {_camel(name): value for name, value in fields.items()}
    line = {"at": timestamp(), "level": level, "message": message, **_context, **named}
    text = json.dumps(line, default=str, ensure_ascii=False)
    with _lock:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def warning(message: str, **fields: Any) -> None:
    event(message, level="warning", **fields)


def error(message: str, **fields: Any) -> None:
    event(message, level="error", **fields)
