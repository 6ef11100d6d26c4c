"""Numbers as a person reads them at night."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Three significant digits: 412 ms, 1.3 s, 12 ms, 130 s."""
    if seconds < 0.9995:
        return f"{_short(seconds * 1000)} ms"
    return f"{_short(seconds)} s"


def percent(share: float) -> str:
    """Of a share (0.01 is 1 %)."""
    return f"{_short(share * 100)} %"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
