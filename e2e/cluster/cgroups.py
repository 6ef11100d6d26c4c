"""Control groups of a node: its own root in every hierarchy, version 1 or 2, and an end to everything inside it.

Whatever runs in a pod is in its node's group, so that killing a group's members is exact where looking for programs
by name would not be.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def is_v2(root: Path = ROOT) -> bool:
    return (root / "cgroup.controllers").exists()


def hierarchies(root: Path = ROOT) -> list[Path]:
    """Where groups are made: the one unified root, or each version 1 hierarchy (aliases that are links left out)."""
    if is_v2(root):
        return [root]
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.is_symlink() and p.name != "unified")


def create(group: str, root: Path = ROOT) -> None:
    """Make the group everywhere. A version 1 cpuset starts empty and would refuse every process."""
    if is_v2(root):
        controllers = (root / "cgroup.controllers").read_text().split()
        wanted = [c for c in ("cpu", "cpuset", "memory", "pids", "io", "hugetlb") if c in controllers]
        (root / "cgroup.subtree_control").write_text(" ".join(f"+{c}" for c in wanted))
        (root / group.strip("/")).mkdir(exist_ok=True)
        (root / group.strip("/") / "cgroup.subtree_control").write_text(" ".join(f"+{c}" for c in wanted))
        return
    for hierarchy in hierarchies(root):
        folder = hierarchy / group.strip("/")
        folder.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (folder / file).exists() and not (folder / file).read_text().strip():
                (folder / file).write_text((hierarchy / file).read_text())


def _groups(group: str, root: Path) -> Iterator[Path]:
    """The group and all below it, deepest first; runc also makes it in the unified tree of a hybrid host."""
    for hierarchy in [*hierarchies(root), root / "unified"]:
        top = hierarchy / group.strip("/")
        if top.is_dir():
            for folder, _, _ in os.walk(top, topdown=False):
                yield Path(folder)


def members(group: str, root: Path = ROOT) -> set[int]:
    """Pids of everything in the group or below it."""
    pids: set[int] = set()
    for folder in _groups(group, root):
        try:
            pids |= {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
        except OSError:
            continue
    return pids - {0, os.getpid()}


def kill(group: str, root: Path = ROOT, seconds: float = 20) -> None:
    """SIGKILL every member until none is left."""
    deadline = time.monotonic() + seconds
    while pids := members(group, root):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def remove(group: str, root: Path = ROOT) -> None:
    """Remove the emptied group; what a dying process still holds is left for the next time."""
    for folder in _groups(group, root):
        try:
            folder.rmdir()
        except OSError:
            continue
