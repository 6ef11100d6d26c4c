"""RESULTS.md says target, figure and verdict, and never pretends to have measured what it has not."""

from __future__ import annotations

from typing import Any

from bench import report
from bench.scenarios import SCENARIOS

REACTION: dict[str, Any] = {
    "jobs": 200,
    "load": 4.0,
    "apply to Job p50 ms": 31.0,
    "apply to Job p99 ms": 55.0,
    "operator share of apply to Job p50 ms": 12.0,
    "operator share of apply to Job p99 ms": 20.0,
}


def results(**changes: Any) -> dict[str, Any]:
    return {"reaction": report.stamped("reaction", REACTION | changes)}


def line(text: str, start: str) -> str:
    return next(row for row in text.splitlines() if row.startswith(f"| {start}"))


def test_a_figure_within_its_target_is_met_and_shown_with_the_load() -> None:
    row = line(report.render(results(), ""), "2 jobs/s")
    assert "55 ms (p50 31 ms); load 4" in row
    assert row.endswith("| met |")


def test_a_figure_over_its_target_is_missed() -> None:
    row = line(report.render(results(**{"apply to Job p99 ms": 61.0}), ""), "2 jobs/s")
    assert row.endswith("| **missed** |")


def test_what_was_not_measured_says_so() -> None:
    assert "not measured" in line(report.render(results(), ""), "10,000 held")


def test_each_scenario_says_command_machine_and_date() -> None:
    text = report.render(results(), "## What was found\n\nSomething.\n")
    assert "`python -m bench reaction`, " in text
    assert " cores, " in text
    assert " UTC." in text
    assert text.endswith("Something.\n")


def test_every_target_names_a_scenario_that_exists() -> None:
    assert {target.scenario for target in report.TARGETS} <= {*SCENARIOS, "gateway"}
