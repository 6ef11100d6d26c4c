"""A node's own control group: made in every hierarchy, found again with everything inside, removed deepest first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from e2e.cluster import cgroups


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    for name in ("cpu", "memory", "cpuset", "unified"):
        (tmp_path / name).mkdir()
    (tmp_path / "cpuacct").symlink_to(tmp_path / "cpu")
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cpuset" / "cpuset.mems").write_text("0\n")
    return tmp_path


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids rdma\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    return tmp_path


def test_version_1_leaves_out_aliases_and_the_unified_one(v1: Path) -> None:
    assert [path.name for path in cgroups.hierarchies(v1)] == ["cpu", "cpuset", "memory"]


def test_version_1_fills_in_the_cpuset(v1: Path) -> None:
    group = v1 / "cpuset" / "finetune-node-1"
    group.mkdir()
    for file in ("cpuset.cpus", "cpuset.mems"):
        (group / file).write_text("\n")  # as the kernel makes it
    cgroups.create("/finetune-node-1", v1)
    assert (group / "cpuset.cpus").read_text() == "0-1\n"
    assert (group / "cpuset.mems").read_text() == "0\n"
    assert (v1 / "memory" / "finetune-node-1").is_dir()


def test_version_2_hands_controllers_down(v2: Path) -> None:
    cgroups.create("/finetune-node-1", v2)
    assert (v2 / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (v2 / "finetune-node-1" / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_kill_ends_members_of_nested_groups_only(v2: Path) -> None:
    inside, outside = (subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2))
    pod = v2 / "finetune-node-1" / "kubepods" / "pod1"
    pod.mkdir(parents=True)
    (pod / "cgroup.procs").write_text(f"{inside.pid}\n")
    try:
        assert cgroups.members("/finetune-node-1", v2) == {inside.pid}
        cgroups.kill("/finetune-node-1", v2, seconds=0.01)
        assert inside.wait(10) == -9
        assert outside.poll() is None
    finally:
        outside.kill()
        for process in (inside, outside):
            process.communicate()


def test_remove_looks_into_the_unified_tree_of_a_hybrid_host(v1: Path) -> None:
    (v1 / "unified" / "finetune-node-1" / "kubepods").mkdir(parents=True)
    cgroups.remove("/finetune-node-1", v1)
    assert not (v1 / "unified" / "finetune-node-1").exists()


def test_remove_takes_the_deepest_first(v2: Path) -> None:
    (v2 / "finetune-node-1" / "kubepods" / "pod1").mkdir(parents=True)
    cgroups.remove("/finetune-node-1", v2)
    assert not (v2 / "finetune-node-1").exists()
