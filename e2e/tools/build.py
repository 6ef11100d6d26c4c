"""Build the pinned tools into a per-user cache: `python -m e2e.tools [BINARY…]` (default: all).

A binary at its place in the cache is complete: it is linked elsewhere and renamed into place, so an
interrupted build leaves nothing that looks done. Go's own build and module caches (12 GB for Kubernetes) are
used only while building; they survive an interruption, to go on from there, and are removed when everything
asked for is built.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from e2e.tools import golang
from e2e.tools.lock import exclusively
from e2e.tools.places import cache_dir
from e2e.tools.progress import Progress

MODULES = Path(__file__).parent
OWN_MAIN = "main.go"


@dataclass(frozen=True)
class Tool:
    """One pinned Go module and the binaries wanted from it (binary → package inside the module)."""

    name: str
    module: str
    binaries: Mapping[str, str]
    version_symbols: tuple[str, ...] = ()
    overlays: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """A file beside go.mod → (module, file of that module) in whose place it is compiled."""

    @property
    def gomod(self) -> str:
        return (MODULES / self.name / "go.mod").read_text()

    @property
    def version(self) -> str:
        found = re.search(rf"^require {re.escape(self.module)} (\S+)$", self.gomod, re.MULTILINE)
        if not found:
            raise ValueError(f"e2e/tools/{self.name}/go.mod: expected a line `require {self.module} VERSION`")
        return found.group(1)

    @property
    def go_version(self) -> str:
        found = re.search(r"^go (\S+)$", self.gomod, re.MULTILINE)
        return found.group(1) if found else "1.26.0"

    @property
    def ldflags(self) -> str:
        return " ".join(["-s -w", *(f"-X {symbol}={self.version}" for symbol in self.version_symbols)])

    def package(self, binary: str) -> str:
        """What to give `go build`: a package of the pinned module, or the main of our own beside its go.mod."""
        if self.binaries[binary] == OWN_MAIN:
            return "."
        return f"{self.module}/{self.binaries[binary]}".rstrip("/.")


# In the order in which a cold machine builds them: what others wait for first.
TOOLS = (
    Tool("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "."}),
    Tool(
        "kubernetes",
        "k8s.io/kubernetes",
        {
            name: f"cmd/{name}"
            for name in (
                "kubectl",
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
            )
        },
        ("k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"),
    ),
    Tool("kwok", "sigs.k8s.io/kwok", {"kwok": "cmd/kwok"}, ("sigs.k8s.io/kwok/pkg/consts.Version",)),
    Tool("helm", "helm.sh/helm/v4", {"helm": "cmd/helm"}, ("helm.sh/helm/v4/internal/version.version",)),
    Tool(
        "containerd",
        "github.com/containerd/containerd/v2",
        {name: f"cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
        ("github.com/containerd/containerd/v2/version.Version",),
    ),
    Tool("versitygw", "github.com/versity/versitygw", {"versitygw": "cmd/versitygw"}, ("main.Version",)),
    Tool("kind", "sigs.k8s.io/kind", {"kind": "."}),
    Tool("coredns", "github.com/coredns/coredns", {"coredns": OWN_MAIN}),
    Tool(
        "traefik",
        "github.com/traefik/traefik/v3",
        {"traefik": "cmd/traefik"},
        ("github.com/traefik/traefik/v3/pkg/version.Version",),
        {"lego_dns.go.txt": ("github.com/go-acme/lego/v4", "providers/dns/zz_gen_dns_providers.go")},
    ),
)
OWNER = {binary: tool for tool in TOOLS for binary in tool.binaries}


def tool_of(binary: str) -> Tool:
    if binary not in OWNER:
        raise SystemExit(f"unknown tool {binary!r}; known: {', '.join(sorted(OWNER))}")
    return OWNER[binary]


def tool_dir(binary: str) -> Path:
    tool = tool_of(binary)
    return cache_dir() / "tools" / f"{tool.name}@{tool.version}"


def path(binary: str) -> Path:
    """Where the binary is, or will be once built."""
    return tool_dir(binary) / binary


def missing(binaries: Iterable[str]) -> list[str]:
    return [binary for binary in binaries if not path(binary).exists()]


def ensure(*binaries: str, progress: Progress | None = None) -> dict[str, Path]:
    """Build what is missing of these binaries; their paths. None named: all but kind, which needs Docker."""
    wanted = list(binaries) or [binary for binary in OWNER if binary != "kind"]
    if missing(wanted):
        progress = progress or Progress()
        with exclusively("tools", progress):
            _build(missing(wanted), progress)
    return {binary: path(binary) for binary in wanted}


def _build(binaries: list[str], progress: Progress) -> None:
    if not binaries:
        return
    newest = max((tool_of(b).go_version for b in binaries), key=golang.parse)
    go = golang.find(newest)
    scratch = cache_dir() / "build"
    scratch.mkdir(parents=True, exist_ok=True)
    env = os.environ | {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false -modcacherw",
        "GOCACHE": str(scratch / "gocache"),
        "GOMODCACHE": str(scratch / "gomod"),
    }
    for binary in sorted(binaries, key=list(OWNER).index):
        tool = tool_of(binary)
        with progress.step(f"build {binary} {tool.version}"):
            made = scratch / binary
            flags = ["-ldflags", tool.ldflags, "-o", str(made), *_overlay(tool, go, env, scratch)]
            run = subprocess.run(
                [go, "build", *flags, tool.package(binary)],
                cwd=MODULES / tool.name,
                env=env,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            if run.returncode:
                raise SystemExit(f"building {binary} failed:\n{run.stdout[-4000:]}")
            path(binary).parent.mkdir(parents=True, exist_ok=True)
            made.rename(path(binary))
    shutil.rmtree(scratch)


def _overlay(tool: Tool, go: Path, env: Mapping[str, str], scratch: Path) -> list[str]:
    """Flags for a build in which the tool's own files stand in the place of some of its modules' files.

    Go's own -overlay refuses files of the module cache, so that a copy of the module replaces it.
    """
    if not tool.overlays:
        return []
    modfile = scratch / f"{tool.name}.mod"
    lines = [tool.gomod]
    for ours, (module, file) in tool.overlays.items():
        command = [go, "mod", "download", "-json", module]
        told = subprocess.run(command, cwd=MODULES / tool.name, env=env, check=True, stdout=subprocess.PIPE, text=True)
        copy = scratch / f"{tool.name}.{Path(module).parent.name}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(json.loads(told.stdout)["Dir"], copy)
        shutil.copyfile(MODULES / tool.name / ours, copy / file)
        lines.append(f"replace {module} => {copy}\n")
    modfile.write_text("\n".join(lines).replace("=> ./", f"=> {MODULES / tool.name}/"))
    shutil.copyfile(MODULES / tool.name / "go.sum", modfile.with_suffix(".sum"))
    return ["-modfile", str(modfile)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.tools", description=__doc__.partition("\n")[0])
    parser.add_argument("binary", nargs="*", help=f"one of {', '.join(OWNER)}; all by default")
    parser.add_argument("--print-path", action="store_true", help="print where each binary is, one a line")
    arguments = parser.parse_args()
    for binary in ensure(*arguments.binary).values():
        if arguments.print_path:
            print(binary)
