"""Long-running programs of the cluster: detached, logged, recorded by pid, and never confused with somebody else's.

A pid file outlives its process (crash, reboot), and the number may be given to another program; before a recorded
pid is believed or signalled, its command line in /proc must be the recorded one.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class NotUp(Exception):
    """A component did not become usable in time; the message says which one, and quotes the end of its log."""


class CommandFailed(subprocess.CalledProcessError):
    """A command's refusal, with its own words in the message."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n{(self.stderr or self.stdout or '').strip()}"


def output_of(command: Sequence[str | Path], input: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Standard output of a command that must succeed; raises CommandFailed."""
    words = [str(part) for part in command]
    run = subprocess.run(words, input=input, env=env, text=True, capture_output=True)
    if run.returncode:
        raise CommandFailed(run.returncode, words, run.stdout, run.stderr)
    return run.stdout


def cmdline(pid: int) -> list[str]:
    """The arguments of a live process; empty for none, a zombie or a foreign kernel thread."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return raw.decode(errors="replace").rstrip("\0").split("\0") if raw else []


def wait_for(what: str, ready: Callable[[], bool], seconds: float, why_not: Callable[[], str]) -> None:
    """Poll until `ready()`; past the deadline raise NotUp with `why_not()`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise NotUp(f"{what} not up after {seconds:.0f} s. {why_not()}")
        time.sleep(0.1)


def tail(path: Path, lines: int = 15) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"


_outliving: list[subprocess.Popen[bytes]] = []
"""Daemons that are meant to outlive this process: Python warns when such a Popen is collected."""


@atexit.register
def _let_go() -> None:
    """Also when it is collected because this process ends."""
    for process in _outliving:
        if process.poll() is None:
            process.returncode = 0


@dataclass
class Daemon:
    """One program. `folder` holds NAME.pid and NAME.log."""

    name: str
    folder: Path
    command: Sequence[str]
    env: Mapping[str, str] | None = None
    with_parent: bool = False
    """True: the kernel kills it when this Python process dies (throw-away servers in tests)."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    def pid(self) -> int | None:
        """The pid of our running process, or None; a stale record counts as none."""
        if self._process is not None and self._process.poll() is None:
            return self._process.pid
        try:
            record = json.loads(self.pid_file.read_text())
        except (OSError, ValueError):
            return None
        if cmdline(record["pid"]) == record["command"]:
            return int(record["pid"])
        return None

    def recorded_command(self) -> list[str]:
        return list(json.loads(self.pid_file.read_text())["command"]) if self.pid() else []

    def start(self) -> bool:
        """Start it unless it runs already with this very command; whether it was started now."""
        command = [str(part) for part in self.command]
        if self.pid():
            if self.recorded_command() == command:
                return False
            self.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if self.with_parent and shutil.which("setpriv") else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.env) if self.env is not None else None,
                start_new_session=True,
                cwd="/",
            )
        if not self.with_parent:
            _outliving.append(self._process)
        partial = self.pid_file.with_suffix(".part")
        partial.write_text(json.dumps({"pid": self._process.pid, "command": command}))
        partial.rename(self.pid_file)
        return True

    def exited(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def wait_until(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        def ready_or_dead() -> bool:
            if self.exited():
                raise NotUp(f"{self.name} exited at once. {self.why_not()}")
            return ready()

        wait_for(self.name, ready_or_dead, seconds, self.why_not)

    def why_not(self) -> str:
        return f"End of {self.log}:\n{tail(self.log)}"

    def stop(self, first: signal.Signals = signal.SIGTERM, patience: float = 10) -> None:
        """Signal it, wait for its exit, then SIGKILL. Returns when the process is gone."""
        for number, seconds in ((first, patience), (signal.SIGKILL, 10.0)):
            pid = self.pid()
            if pid is None:
                break
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                break
            deadline = time.monotonic() + seconds
            while self._alive(pid) and time.monotonic() < deadline:
                time.sleep(0.02)
        self.pid_file.unlink(missing_ok=True)

    def _alive(self, pid: int) -> bool:
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is None
        return bool(cmdline(pid))
