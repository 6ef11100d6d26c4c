"""Kubelets: they run pods (a Program says how their processes behave) and report what happened.

The processes live here, not in the API: on a node that the API server cannot reach they go on, which is exactly what
makes a zombie attempt. A returning node reports what it still runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fakeapi.jsontools import copy, rfc3339
from fakeapi.pods_api import set_condition
from fakeapi.server import FakeApiServer

from .base import Controller, Obj, finished


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

    def ending(self, process: Process, how: str, now: float) -> tuple[int, str]:
        """(exit code, termination message). `how`: done, term or crash; SIGKILL asks nobody."""
        if how == "term":
            return self.term_exit_code, self.term_message
        return self.exit_code, self.message


@dataclass
class Process:
    pod: str
    node: str
    program: Program
    started: float
    running: float | None = None
    term_at: float | None = None
    exit: tuple[int, str, str, float] | None = None  # code, reason, message, when
    killed: bool = False  # the grace period ends before the process would

    def alive(self) -> bool:
        return self.exit is None


class Kubelet(Controller):
    """All kubelets of the cluster in one class; `unreachable` nodes get and send nothing."""

    name = "kubelet"

    def __init__(self, server: FakeApiServer, programs: Callable[[Obj], Program] | None = None) -> None:
        super().__init__(server)
        self.programs = programs or (lambda pod: Program())
        self.unreachable: set[str] = set()
        self.gives_addresses = True
        self.processes: dict[str, Process] = {}
        self._addresses = 0

    # What scenarios do to processes

    def process_of(self, pod: Obj) -> Process | None:
        return self.processes.get(pod["metadata"]["uid"])

    def end(self, pod: Obj, code: int, message: str = "", reason: str = "") -> None:
        """The main process of the pod ends now, on its own."""
        process = self.processes[pod["metadata"]["uid"]]
        if process.alive():
            process.exit = (code, reason or ("Completed" if code == 0 else "Error"), message, self.cluster.now)

    def lose_node(self, name: str) -> None:
        """The machine is gone for good, with all its processes."""
        self.unreachable.add(name)
        for uid in [u for u, p in self.processes.items() if p.node == name]:
            del self.processes[uid]

    # The control loop

    def step(self) -> bool:
        self._pass_time()
        pods = {p["metadata"]["uid"]: p for p in self.cluster.pods()}
        for uid, process in list(self.processes.items()):
            if uid not in pods and process.node not in self.unreachable:
                del self.processes[uid]  # the API object is gone: the kubelet kills what is left
                return True
        for uid, pod in pods.items():
            node = pod["spec"].get("nodeName")
            if node and node not in self.unreachable and self._sync(uid, pod, node):
                return True
        return False

    def due(self) -> float | None:
        times: list[float] = []
        for process in self.processes.values():
            if not process.alive():
                continue
            if process.running is None:
                times.append(process.started + process.program.start_seconds)
            else:
                done = process.program.done_at(process)
                times += [t for t in (done, process.term_at) if t is not None]
        return min((t for t in times if t > self.cluster.now), default=None)

    def _pass_time(self) -> None:
        now = self.cluster.now
        for process in self.processes.values():
            program = process.program
            if not process.alive() or program.image_pull_fails:
                continue
            begun = now >= process.started + program.start_seconds
            if begun and process.running is None and process.term_at is None:
                process.running = now
                program.on_running(process, now)
            if process.term_at is not None and now >= process.term_at:
                self._end(process, "term", now)
                continue
            done = program.done_at(process)
            if done is not None and now >= done:
                self._end(process, "done", now)

    def _end(self, process: Process, how: str, now: float) -> None:
        if how == "term" and process.killed:
            process.exit = (137, "Error", "", now)
            return
        code, message = process.program.ending(process, how, now)
        reason = "OOMKilled" if process.program.oom_killed and how == "done" else "Completed" if code == 0 else "Error"
        process.exit = (code, reason, message, now)

    def _sync(self, uid: str, pod: Obj, node: str) -> bool:
        process = self.processes.get(uid)
        deleting = "deletionTimestamp" in pod["metadata"]
        if finished(pod):
            if deleting and pod["metadata"].get("deletionGracePeriodSeconds"):
                self.cluster.delete("", "pods", pod, gracePeriodSeconds=0)
                return True
            return False
        if process is None:
            if deleting or pod["status"].get("containerStatuses"):
                # Never started here, or the machine lost its memory: report it as failed.
                return self._report_end(pod, (137, "ContainerStatusUnknown", "", self.cluster.now))
            self.processes[uid] = Process(pod["metadata"]["name"], node, self.programs(copy(pod)), self.cluster.now)
            return self._report_start(pod)
        if deleting and process.alive() and process.term_at is None:
            self._terminate(process, pod)
            self._pass_time()
            if process.alive():
                return True
        if process.exit is not None:
            return self._report_end(pod, process.exit)
        if process.running is not None and pod["status"].get("phase") != "Running":
            return self._report_running(pod, process.running)
        if process.program.image_pull_fails and not _waiting(pod, "ImagePullBackOff"):
            return self._report_waiting(pod, "ImagePullBackOff", "Back-off pulling image")
        return False

    def _terminate(self, process: Process, pod: Obj) -> None:
        """SIGTERM now; SIGKILL when the grace period is over."""
        grace = pod["metadata"].get("deletionGracePeriodSeconds") or 0
        now = self.cluster.now
        if process.running is None:
            process.term_at, process.killed = now, True
            return
        seconds = process.program.on_term(process, now)
        process.killed = seconds > grace
        process.term_at = now + min(seconds, grace)

    # Reports

    def _containers(self, pod: Obj, state: Obj, *, ready: bool) -> list[Obj]:
        return [
            {
                "name": c["name"],
                "image": c["image"],
                "imageID": f"sha256:{c['image']}",
                "ready": ready,
                "restartCount": 0,
                "started": ready,
                "state": copy(state),
            }
            for c in pod["spec"]["containers"]
        ]

    def _report_start(self, pod: Obj) -> bool:
        new = copy(pod)
        status = new["status"]
        status["phase"] = "Pending"
        status["startTime"] = rfc3339(self.cluster.now)
        status["hostIP"] = "10.0.0.1"
        status["containerStatuses"] = self._containers(pod, {"waiting": {"reason": "ContainerCreating"}}, ready=False)
        set_condition(new, "Ready", "False", self.cluster.now, reason="ContainersNotReady")
        self.cluster.put("", "pods", new, "status")
        return True

    def _report_waiting(self, pod: Obj, reason: str, message: str) -> bool:
        new = copy(pod)
        waiting = {"waiting": {"reason": reason, "message": message}}
        new["status"]["containerStatuses"] = self._containers(pod, waiting, ready=False)
        self.cluster.put("", "pods", new, "status")
        return True

    def _report_running(self, pod: Obj, since: float) -> bool:
        new = copy(pod)
        status = new["status"]
        status["phase"] = "Running"
        if self.gives_addresses:
            self._addresses += 1
            status["podIP"] = f"10.244.{self._addresses // 250}.{self._addresses % 250 + 1}"
            status["podIPs"] = [{"ip": status["podIP"]}]
        if pod["spec"].get("initContainers"):
            status["initContainerStatuses"] = [
                {
                    "name": c["name"],
                    "image": c["image"],
                    "imageID": f"sha256:{c['image']}",
                    "ready": True,
                    "restartCount": 0,
                    "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
                }
                for c in pod["spec"]["initContainers"]
            ]
        status["containerStatuses"] = self._containers(pod, {"running": {"startedAt": rfc3339(since)}}, ready=True)
        set_condition(new, "Ready", "True", self.cluster.now)
        self.cluster.put("", "pods", new, "status")
        return True

    def _report_end(self, pod: Obj, how: tuple[int, str, str, float]) -> bool:
        code, reason, message, when = how
        new = copy(pod)
        terminated: Obj = {"exitCode": code, "reason": reason, "finishedAt": rfc3339(when)}
        if message:
            terminated["message"] = message[:4096]
        new["status"]["phase"] = "Succeeded" if code == 0 else "Failed"
        new["status"]["containerStatuses"] = self._containers(pod, {"terminated": terminated}, ready=False)
        set_condition(new, "Ready", "False", self.cluster.now, reason="PodFailed")
        self.cluster.put("", "pods", new, "status")
        return True


def _waiting(pod: Obj, reason: str) -> bool:
    statuses = pod["status"].get("containerStatuses") or []
    return any(s["state"].get("waiting", {}).get("reason") == reason for s in statuses)


__all__ = ["Kubelet", "Process", "Program"]
