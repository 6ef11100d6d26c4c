"""RFC 3339 in UTC to datetime and back. `now` always comes from outside."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(moment: datetime) -> str:
    """`2026-01-02T03:04:05Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime:
    """Raises ValueError on anything that is not RFC 3339."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def seconds_between(earlier: str | None, later: str | None) -> float:
    """At least 0; 0 when either is unknown."""
    if not earlier or not later:
        return 0.0
    return max(0.0, (parse(later) - parse(earlier)).total_seconds())
