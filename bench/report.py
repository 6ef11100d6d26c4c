"""results.json and RESULTS.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")


def load() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def stamped(figures: dict[str, Any]) -> dict[str, Any]:
    return figures


def write(results: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(results, indent=1))
