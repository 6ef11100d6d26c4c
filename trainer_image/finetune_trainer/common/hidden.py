"""Libraries import what they find installed, used or not; some of that takes seconds of every process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(package: str) -> Iterator[None]:
    """Within, `package` is not installed for whoever looks for it. What already has it keeps it."""
    absent = object()
    found = sys.modules.get(package, absent)
    sys.modules[package] = None  # type: ignore[assignment]  # Python's word for it
    try:
        yield
    finally:
        if found is absent:
            del sys.modules[package]
        else:
            sys.modules[package] = found  # type: ignore[assignment]
