"""Counts and ratios that may not get worse. A clock time is never a reason to fail: machines differ and are busy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

THRESHOLDS = Path(__file__).with_name("thresholds.yaml")


def thresholds() -> dict[str, dict[str, float]]:
    loaded: dict[str, dict[str, float]] = yaml.safe_load(THRESHOLDS.read_text())
    return loaded


def derived(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures, and the ratios that follow from them."""
    out = dict(figures)
    if "refused" in figures:
        out["refused per namespace"] = sum(figures["refused"].values()) / figures["namespaces"]
    if "Job jobs/s" in figures and figures.get("raw creates/s"):
        per_job = figures["writes/job"] + figures["Events/job"] + 1
        out["share of raw creates"] = figures["Job jobs/s"] * per_job / figures["raw creates/s"]
    return out


def problems(figures: Mapping[str, Any], limits: Mapping[str, Mapping[str, float]] | None = None) -> list[str]:
    """In words; figures that this scenario does not have are no problem."""
    known = derived(figures)
    found = []
    for name, limit in (thresholds() if limits is None else limits).items():
        value = known.get(name)
        if value is None:
            continue
        if "max" in limit and value > limit["max"]:
            found.append(f"{name} is {value:g}, at most {limit['max']:g} allowed")
        if "min" in limit and value < limit["min"]:
            found.append(f"{name} is {value:g}, at least {limit['min']:g} wanted")
    return found
