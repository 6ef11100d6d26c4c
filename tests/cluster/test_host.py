"""What the machine lacks is found before anything is touched, and said with what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from e2e.cluster import host

FILESYSTEMS = "nodev\tproc\nnodev\toverlay\n\text4\n"
CONTROLLERS = """#subsys_name\thierarchy\tnum_cgroups\tenabled
cpuset\t3\t1\t1
cpu\t1\t1\t1
memory\t4\t23\t1
pids\t8\t1\t1
"""


def test_a_fit_kernel_has_no_findings() -> None:
    assert host.kernel_findings(FILESYSTEMS, CONTROLLERS, modules_tool=False) == []


@pytest.mark.parametrize(
    ("filesystems", "controllers", "modules", "words"),
    [
        ("\text4\n", CONTROLLERS, True, "no overlay file system: modprobe overlay"),
        ("\text4\n", CONTROLLERS, False, "no overlay file system: a kernel with CONFIG_OVERLAY_FS"),
        (FILESYSTEMS, CONTROLLERS.replace("23\t1", "23\t0"), False, "controller 'memory' is off"),
        (FILESYSTEMS, CONTROLLERS.replace("pids\t8\t1\t1\n", ""), False, "controller 'pids' is off"),
    ],
)
def test_kernel_findings(filesystems: str, controllers: str, modules: bool, words: str) -> None:
    found = host.kernel_findings(filesystems, controllers, modules)
    assert len(found) == 1
    assert words in found[0]


def test_memory_is_read_from_meminfo() -> None:
    assert host.memory_available("MemTotal:  100 kB\nMemAvailable:   2048 kB\n") == 2048 * 1024
    assert host.memory_available("") == 0


def test_free_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert host.disk_free(tmp_path / "a" / "b") > 0


def test_without_root_one_finding_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.os, "geteuid", lambda: 1000)
    assert host.findings(host.DISK_COLD) == [
        "Plain binaries need root: run this as root, or start a Docker engine, then the kind way is taken"
    ]


def test_too_little_disk_and_memory_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.os, "geteuid", lambda: 0)
    monkeypatch.setattr(host, "memory_available", lambda text: host.GIB)
    monkeypatch.setattr(host, "disk_free", lambda path: 3 * host.GIB)
    words = "\n".join(host.findings(host.DISK_COLD))
    assert "1.0 GiB of memory available, 10 GiB needed" in words
    assert "3 GiB free at" in words
    assert "point FINETUNE_CACHE to a larger disk" in words


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "PACKAGES", {"surely-not-a-program": "some-package", "sh": "dash"})
    assert host.missing_packages() == ["some-package"]


def test_without_apt_the_packages_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host, "PACKAGES", {"surely-not-a-program": "some-package"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(host.Unfit, match=r"install these packages .*: some-package"):
        host.install_packages(host.Progress())


ROUTES = """default via 192.0.2.1 dev eth0
192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.2
100.65.0.0/16 dev finetune0 scope link
local 100.66.0.1 dev finetune0 table local proto kernel scope host src 100.66.0.1
100.96.0.0/16 dev vpn1 scope link
"""


def test_our_own_and_unrelated_routes_are_no_finding() -> None:
    assert host.foreign_routes(ROUTES) == []


@pytest.mark.parametrize("line", ["100.64.0.0/10 dev tailscale0 scope link", "local 100.65.3.7 dev vpn0 table local"])
def test_a_vpn_on_our_addresses_is_named(line: str) -> None:
    found = host.foreign_routes(f"{ROUTES}{line}\n")
    assert len(found) == 1
    assert found[0].startswith(line.split(" dev ")[1].split()[0])


def test_a_port_that_somebody_listens_on_is_named_with_who_needs_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert host.taken_ports({port: "etcd"}) == [
            f"Port {port} is in use, etcd needs it: stop the program that listens there"
        ]
    assert host.taken_ports({port: "etcd"}) == []
