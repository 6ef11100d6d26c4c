"""A process that stands in for a pod: the trainer's own entry point, with a config, a scratch directory and a token."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from finetune_api import runconfig as rc
from finetune_api.base import WireModel
from finetune_api.reports import Progress
from finetune_api.runconfig import RunConfig

Report = TypeVar("Report", bound=WireModel)
PORT_ENV = "FINETUNE_PORT"
RENDEZVOUS_PORT_ENV = "FINETUNE_RENDEZVOUS_PORT"
_PR_SET_PDEATHSIG = 1


class Pod:
    """Started by its constructor."""

    def __init__(
        self, arguments: list[str], config: RunConfig, scratch: Path, log: Path, environment: dict[str, str]
    ) -> None:
        self.scratch, self.log = scratch, log
        self._token = secrets.token_urlsafe(24)
        self._port, rendezvous = free_ports(2)
        scratch.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        (scratch / "termination").unlink(missing_ok=True)
        (scratch / "run.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
        token = scratch / "token"
        token.touch(mode=0o600)
        token.write_text(self._token)
        variables = {**environment, PORT_ENV: str(self._port), RENDEZVOUS_PORT_ENV: str(rendezvous)}
        with log.open("ab") as out:
            # A session of its own: Ctrl-C is for us, who then ask for a stop.
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def progress(self) -> Progress | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/progress", headers={rc.TOKEN_HEADER: self._token})
            answer = connection.getresponse()
            return Progress.model_validate_json(answer.read()) if answer.status == 200 else None
        except (OSError, http.client.HTTPException, ValidationError):
            return None
        finally:
            connection.close()

    def losses(self) -> list[tuple[int, float]]:
        """(step, loss) as rank 0 wrote them down, so far."""
        try:
            lines = (self.scratch / "attempt" / "metrics.jsonl").read_text().splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):
                point = json.loads(line)
                if "loss" in point:
                    found.append((int(point["step"]), float(point["loss"])))
        return found

    def report(self, kind: type[Report]) -> Report | None:
        """Its last words; None when it could say none."""
        try:
            return kind.model_validate_json((self.scratch / "termination").read_bytes())
        except (OSError, ValidationError):
            return None

    def stop(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        """With all that came of it: the ranks have sessions of their own."""
        for pid in [*descendants(self.process.pid), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def tail(self, lines: int = 12) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


def descendants(pid: int) -> Iterator[int]:
    """Youngest generation last; none where there is no /proc."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                yield int(child)
                yield from descendants(int(child))


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _die_with_parent() -> None:
    """A command that is killed leaves no training behind: its pod gets SIGTERM, and saves."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
