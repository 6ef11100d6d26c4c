"""What fails a benchmark: counts and ratios, in words, and never the clock."""

from __future__ import annotations

import pytest

from bench.check import derived, problems, thresholds


def test_a_figure_over_its_limit_is_named_with_value_and_limit() -> None:
    assert problems({"writes/job": 7.0}, {"writes/job": {"max": 6}}) == ["writes/job is 7, at most 6 allowed"]
    assert problems({"hits": 0.5}, {"hits": {"min": 1}}) == ["hits is 0.5, at least 1 wanted"]


def test_figures_at_their_limit_or_not_measured_are_fine() -> None:
    assert problems({"writes/job": 6.0}, {"writes/job": {"max": 6}, "no-op writes": {"max": 0}}) == []


def test_refusals_are_judged_per_namespace_because_only_its_shared_service_causes_them() -> None:
    figures = {"jobs": 1000, "namespaces": 2, "refused": {"409 patch services": 30, "409 create services": 2}}
    assert derived(figures)["refused per namespace"] == 16


def test_the_share_of_raw_throughput_counts_the_apply_and_the_events_too() -> None:
    figures = {"Job jobs/s": 50.0, "raw creates/s": 900.0, "writes/job": 6.0, "Events/job": 2.0}
    assert derived(figures)["share of raw creates"] == pytest.approx(0.5)


def test_no_threshold_is_a_time() -> None:
    names = thresholds()
    assert names["writes/job"]["max"] == 6
    assert names["no-op writes"]["max"] == 0
    assert not [name for name in names if name.endswith((" s", " ms", "/s"))]
