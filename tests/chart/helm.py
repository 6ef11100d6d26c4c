"""Renders the chart and reads what came out."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[2]
CHART = REPO / "helm" / "finetune-operator"
NAMESPACE = "finetune-system"
Obj = dict[str, Any]


class Refused(Exception):
    """Helm said no; the text is what it said."""


class Helm:
    def __init__(self, binary: Path, home: Path) -> None:
        self._binary = binary
        self._env = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
        self._rendered: dict[tuple[str, ...], str] = {}

    def run(self, *args: str) -> str:
        done = subprocess.run([str(self._binary), *args], env=self._env, text=True, capture_output=True)
        if done.returncode:
            raise Refused(done.stderr)
        return done.stdout

    def text(self, *args: str, release: str = "finetune-operator") -> str:
        command = ("template", release, str(CHART), "--namespace", NAMESPACE, *args)
        if command not in self._rendered:
            self._rendered[command] = self.run(*command)
        return self._rendered[command]

    def template(self, *args: str, release: str = "finetune-operator") -> list[Obj]:
        return [o for o in yaml.safe_load_all(self.text(*args, release=release)) if o]


def is_gateway(o: Obj) -> bool:
    return bool(o["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "gateway")


def ours(objects: list[Obj]) -> list[Obj]:
    """Without the installed Gateway's."""
    return [o for o in objects if not is_gateway(o)]


def of_kind(objects: list[Obj], kind: str) -> list[Obj]:
    return [o for o in objects if o["kind"] == kind]


def one(objects: list[Obj], kind: str) -> Obj:
    found = of_kind(objects, kind)
    assert len(found) == 1, f"expected one {kind}, found {[o['metadata']['name'] for o in found]}"
    return found[0]
