"""Time as the wire wants it, and the monotonic clock that every deadline here is measured with."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def timestamp() -> str:
    """Now, RFC 3339 in UTC with milliseconds."""
    # Not datetime.UTC: custom trainers carry this module into images with Python 3.9.
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")  # noqa: UP017


def monotonic() -> float:
    """Seconds; comparable between the processes of one pod."""
    return time.monotonic()
