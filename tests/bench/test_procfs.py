"""Figures from /proc, also for a process whose name has spaces and parentheses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.procfs import cpu_seconds, load_average, memory_mib


def test_the_name_of_a_process_does_not_shift_its_figures(tmp_path: Path) -> None:
    folder = tmp_path / "42"
    folder.mkdir()
    fields = ["S", *("0" for _ in range(10)), "300", "50", *("7" for _ in range(20))]
    (folder / "stat").write_text(f"42 (a ) b) {' '.join(fields)}\n")
    assert cpu_seconds(42, tmp_path) == pytest.approx(350 / os.sysconf("SC_CLK_TCK"))


def test_memory_now_and_at_its_peak(tmp_path: Path) -> None:
    folder = tmp_path / "42"
    folder.mkdir()
    (folder / "status").write_text("Name:\tx\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\n")
    assert memory_mib(42, proc=tmp_path) == 100
    assert memory_mib(42, "VmHWM", tmp_path) == 200
    with pytest.raises(KeyError, match="VmSwap of process 42"):
        memory_mib(42, "VmSwap", tmp_path)


def test_this_process_has_used_something() -> None:
    assert cpu_seconds(os.getpid()) > 0
    assert memory_mib(os.getpid()) > 1
    assert load_average() >= 0
