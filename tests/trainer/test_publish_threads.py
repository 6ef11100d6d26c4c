"""Threads by the pod's share, not by the machine's cores."""

import os
from pathlib import Path

import pytest

from finetune_trainer.publish.threads import choose_threads, usable_cpus


@pytest.mark.parametrize(
    ("parameters", "environment", "cpus", "expected"),
    [
        (700_000, None, 8, 1),
        (8_000_000_000, None, 8, 8),
        (8_000_000_000, "3", 8, 3),
        (700_000, "2", 8, 2),
        (8_000_000_000, "all", 4, 4),
        (8_000_000_000, "", 0, 1),
    ],
)
def test_table(parameters: int, environment: str | None, cpus: int, expected: int) -> None:
    assert choose_threads(parameters, environment=environment, cpus=cpus) == expected


@pytest.mark.parametrize(("content", "most"), [("100000 100000", 1), ("150000 100000", 2), ("20000 100000", 1)])
def test_the_cgroups_quota_counts(tmp_path: Path, content: str, most: int) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(content)
    assert usable_cpus(path) == min(most, len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("content", ["max 100000", "what is this"])
def test_without_a_quota_the_affinity_decides(tmp_path: Path, content: str) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(content)
    assert usable_cpus(path) == usable_cpus(tmp_path / "absent") == len(os.sched_getaffinity(0))
