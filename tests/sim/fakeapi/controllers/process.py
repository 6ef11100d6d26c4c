"""What runs in a pod: a Program says how its processes behave, a Process is one pod's, on one node.

Restarts in place follow the pod's restartPolicy, with the kubelet's growing pauses; init containers run before the
main ones and are repeated in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from fakeapi.jsontools import dig

Obj = dict[str, Any]
_BACKOFF = (0.5, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)


@dataclass(frozen=True)
class Program:
    """How the processes of one pod behave. `seconds` None: they run until told to end.

    Subclasses override the methods where behaviour depends on other pods.
    """

    start_seconds: float = 1.0
    seconds: float | None = 10.0
    exit_code: int = 0
    message: str = ""
    term_seconds: float = 1.0
    term_exit_code: int = 143
    term_message: str = ""
    oom_killed: bool = False
    image_pull_fails: bool = False
    init_seconds: float = 0.0
    """Of all init containers together, where the pod has some."""
    init_exit_code: int = 0
    init_message: str = ""
    ready_seconds: float | None = 0.0
    """From running to ready; None: never."""

    def done_at(self, process: Process) -> float | None:
        """When the main process ends by itself, as far as is known now."""
        if process.running is None or self.seconds is None:
            return None
        return process.running + self.seconds

    def on_running(self, process: Process, now: float) -> None:
        """The main process has begun."""

    def on_term(self, process: Process, now: float) -> float:
        """SIGTERM arrives; returns the seconds until the process ends."""
        return self.term_seconds

    def on_end(self, process: Process, now: float) -> None:
        """The main process is no more, for whatever reason."""

    def ready_at(self, process: Process) -> float | None:
        """From when on the readiness probe succeeds."""
        if process.running is None or self.ready_seconds is None:
            return None
        return process.running + self.ready_seconds

    def ending(self, process: Process, how: str, now: float) -> tuple[int, str]:
        """(exit code, termination message). `how`: done, term or crash; SIGKILL asks nobody."""
        if how == "term":
            return self.term_exit_code, self.term_message
        return self.exit_code, self.message


class Exit(NamedTuple):
    code: int
    reason: str
    message: str
    at: float


@dataclass
class Process:
    pod: str
    node: str
    program: Program
    started: float
    restart_policy: str = "Never"
    has_init: bool = False
    pre_stop: float = 0.0
    running: float | None = None
    sigterm_at: float | None = None
    term_at: float | None = None
    exit: Exit | None = None
    killed: bool = False  # the grace period ends before the process would
    init_running: float | None = None
    init_exit: Exit | None = None
    init_restarts: int = 0
    restarts: int = 0
    last: Exit | None = None
    back_at: float | None = None
    """Waits until then to be run again."""
    killed_at: float | None = None
    """When the grace period ends."""

    @classmethod
    def of(cls, pod: Obj, node: str, program: Program, now: float) -> Process:
        spec = pod["spec"]
        waits = [dig(c, "lifecycle", "preStop", "sleep", "seconds", default=0) for c in spec["containers"]]
        return cls(
            pod["metadata"]["name"],
            node,
            program,
            now,
            restart_policy=spec.get("restartPolicy", "Always"),
            has_init=bool(spec.get("initContainers")),
            pre_stop=float(max(waits, default=0)),
        )

    def alive(self) -> bool:
        return self.exit is None

    def pass_time(self, now: float) -> None:
        if self.exit is not None:
            return
        if self.sigterm_at is not None and self.term_at is None and now >= self.sigterm_at:
            self._sigterm(now)
        if self.term_at is not None:
            if now >= self.term_at:
                self._terminated(now)
            return
        if self.program.image_pull_fails or (self.back_at is not None and now < self.back_at):
            return
        if self.running is None and now >= self.started + self.program.start_seconds:
            self._begin(now)
        done = self.program.done_at(self)
        if self.exit is None and self.running is not None and done is not None and now >= done:
            code, message = self.program.ending(self, "done", now)
            self.end(code, message, now, "OOMKilled" if self.program.oom_killed else "")

    def due(self) -> list[float]:
        """The instants at which `pass_time` has something to do, as far as is known now."""
        if self.exit is not None:
            return []
        if self.running is None:
            times = [self.started + self.program.start_seconds, self.back_at, self._init_ends()]
            times += [self.term_at, self.sigterm_at]
        else:
            times = [self.program.done_at(self), self.term_at, self.sigterm_at, self.program.ready_at(self)]
        return [t for t in times if t is not None]

    def ready(self, now: float) -> bool:
        at = self.program.ready_at(self)
        return self.exit is None and self.running is not None and at is not None and now >= at

    def look(self, now: float) -> tuple[object, ...]:
        """Equal as long as there is nothing new to report."""
        return self.running, self.restarts, self.init_running, self.init_exit, self.back_at, self.ready(now)

    def terminate(self, grace: float, now: float) -> None:
        """The pod is being deleted: preStop hooks, SIGTERM, and SIGKILL when the grace period is over."""
        self.killed_at = now + grace
        if self.running is None:
            self.term_at, self.killed = now, True
            return
        self.sigterm_at = now + min(self.pre_stop, grace)
        self.pass_time(now)

    def end(self, code: int, message: str, now: float, reason: str = "") -> None:
        """The main process ends by itself; the kubelet starts it again where the policy says so."""
        self.program.on_end(self, now)
        gone = Exit(code, reason or ("Completed" if code == 0 else "Error"), message, now)
        again = self.restart_policy == "Always" or (self.restart_policy == "OnFailure" and code != 0)
        if not again or self.sigterm_at is not None:
            self.exit = gone
            return
        self.last, self.running = gone, None
        self.back_at = now + _BACKOFF[min(self.restarts, len(_BACKOFF) - 1)]
        self.restarts += 1

    def _init_ends(self) -> float | None:
        return None if self.init_running is None else self.init_running + self.program.init_seconds

    def _begin(self, now: float) -> None:
        self.back_at = None
        if self.has_init and not (self.init_exit is not None and self.init_exit.code == 0):
            if self.init_running is None:
                self.init_running = now
            ends = self._init_ends()
            assert ends is not None
            if now < ends:
                return
            code, self.init_running = self.program.init_exit_code, None
            reason = "Completed" if code == 0 else "Error"
            self.init_exit = Exit(code, reason, self.program.init_message, now)
            if code != 0:
                if self.restart_policy == "Never":
                    self.exit = self.init_exit
                    return
                self.back_at = now + _BACKOFF[min(self.init_restarts, len(_BACKOFF) - 1)]
                self.init_restarts += 1
                return
        self.running = now
        self.program.on_running(self, now)

    def _sigterm(self, now: float) -> None:
        assert self.killed_at is not None
        if self.running is None:
            self.term_at, self.killed = now, True
            return
        seconds = self.program.on_term(self, now)
        self.killed = now + seconds > self.killed_at
        self.term_at = min(now + seconds, self.killed_at)

    def _terminated(self, now: float) -> None:
        if self.running is None or self.killed:
            self.program.on_end(self, now)
            self.exit = Exit(137, "Error", "", now)
            return
        code, message = self.program.ending(self, "term", now)
        self.program.on_end(self, now)
        self.exit = Exit(code, "Completed" if code == 0 else "Error", message, now)
