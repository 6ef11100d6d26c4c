"""Which cells of a matrix `make test` runs; the others are left to `make nightly` (docs/design/test-time.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def cells(values: Iterable[Any], shown: Collection[Any]) -> list[Any]:
    """For `parametrize`: all of `values`, those that are not in `shown` marked nightly. What is shown must be there."""
    found = list(values)
    assert not (missing := [value for value in shown if value not in found]), missing
    return [value if value in shown else _later(value) for value in found]


def _later(value: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.nightly)
