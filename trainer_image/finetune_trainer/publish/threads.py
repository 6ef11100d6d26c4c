"""How many threads torch may use: it asks the machine, but a pod has only its share.

With more threads than cores each operation waits for its slowest thread; a small model loses by any second thread.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

SMALL_MODEL_PARAMETERS = 20_000_000
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def choose_threads(parameters: int, *, environment: str | None, cpus: int) -> int:
    """`environment` is OMP_NUM_THREADS; it decides when it is set."""
    if environment and environment.isdecimal() and int(environment) > 0:
        return int(environment)
    return 1 if parameters < SMALL_MODEL_PARAMETERS else max(1, cpus)


def usable_cpus(cpu_max: Path = _CPU_MAX) -> int:
    """Of this process: its affinity, and the quota of its cgroup (v2)."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text().split()
        return cpus if quota == "max" else max(1, min(cpus, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return cpus
