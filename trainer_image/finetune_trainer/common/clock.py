"""Time as the wire wants it, and the monotonic clock that every deadline here is measured with."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def timestamp() -> str:
    """Now, RFC 3339 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def monotonic() -> float:
    """Seconds; comparable between the processes of one pod."""
    return time.monotonic()
