"""A network of its own for one run, so that nothing of it can reach another machine.

kwok gives every fake pod an address, and the operator polls it. In a fresh network namespace all of those addresses
are local: one stub answers for every pod, and there is no route anywhere else. The mount namespace lets the operator
find a service account where a pod has it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

POD_NET = "10.128.0.0/9"
_MARK = "FINETUNE_BENCH_SANDBOX"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NoSandbox(Exception):
    """The kernel does not let us have a network of our own; the message says what to do."""


def inside() -> bool:
    return _MARK in os.environ


def why_not() -> str | None:
    """Why no network of our own can be made here, in words; None when it can."""
    probe = ["unshare", *_flags(), "true"]
    answer = subprocess.run(probe, capture_output=True, text=True)
    if not answer.returncode:
        return None
    return (
        f"`{' '.join(probe)}` failed: {answer.stderr.strip()}. The benchmarks need a network namespace of their own: "
        "run them as root, or where unprivileged user namespaces are allowed."
    )


def enter(argv: list[str]) -> None:
    """Start this program again in new namespaces; does not return."""
    if reason := why_not():
        raise NoSandbox(reason)
    command = ["unshare", *_flags(), sys.executable, "-m", "bench", *argv]
    os.execvpe("unshare", command, os.environ | {_MARK: "1"})


def _flags() -> list[str]:
    return ["--net", "--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net", "--mount"]


def prepare() -> None:
    """Once, inside: loopback up, pod addresses local, a private /run for the service account."""
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "route", "add", "local", POD_NET, "dev", "lo"],
        ["mount", "-t", "tmpfs", "tmpfs", str(Path("/var/run").resolve())],
    ):
        subprocess.run(command, check=True, capture_output=True, text=True)
    ACCOUNT.mkdir(parents=True)
