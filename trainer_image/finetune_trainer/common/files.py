"""Small files that are either whole or absent."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any


def write_atomic(path: Path, content: bytes) -> None:
    """Write, then rename. Where no rename is possible (`/dev/termination-log` is a bind mount) write in place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        path.write_bytes(content)


def write_json(path: Path, document: Any) -> None:
    write_atomic(path, json.dumps(document, separators=(",", ":")).encode())


def read_json(path: Path) -> Any | None:
    """The document, or None when there is none (yet)."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
