"""What a process has used, read from /proc: figures that a busy machine changes less than it changes the clock."""

from __future__ import annotations

import os
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int, proc: Path = Path("/proc")) -> float:
    """User and system time of all threads, children not counted."""
    text = (proc / str(pid) / "stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory_mib(pid: int, name: str = "VmRSS", proc: Path = Path("/proc")) -> float:
    """VmRSS is what is resident now, VmHWM the most that ever was."""
    for line in (proc / str(pid) / "status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) / 1024
    raise KeyError(f"{name} of process {pid}")


def load_average(proc: Path = Path("/proc")) -> float:
    """Over the last minute."""
    return float((proc / "loadavg").read_text().split()[0])
