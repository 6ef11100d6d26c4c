"""Kubelets: they run pods (a Program says how their processes behave) and report what happened.

The processes live here, not in the API: on a node that the API server cannot reach they go on, which is exactly what
makes a zombie attempt. A returning node reports what it still runs.
"""

from __future__ import annotations

from collections.abc import Callable

from fakeapi.jsontools import copy
from fakeapi.server import FakeApiServer

from . import pod_status
from .base import Controller, Obj, finished
from .process import Exit, Process, Program


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
        self._said: dict[str, object] = {}

    # What scenarios do to processes

    def process_of(self, pod: Obj) -> Process | None:
        return self.processes.get(pod["metadata"]["uid"])

    def end(self, pod: Obj, code: int, message: str = "", reason: str = "") -> None:
        """The main process of the pod ends now, on its own."""
        process = self.processes[pod["metadata"]["uid"]]
        if process.alive():
            process.end(code, message, self.cluster.now, reason)

    def lose_node(self, name: str) -> None:
        """The machine is gone for good, with all its processes."""
        self.unreachable.add(name)
        for uid in [u for u, p in self.processes.items() if p.node == name]:
            self._drop(uid)

    def _drop(self, uid: str) -> None:
        process = self.processes.pop(uid)
        self._said.pop(uid, None)
        if process.alive():
            process.program.on_end(process, self.cluster.now)

    # The control loop

    def step(self) -> bool:
        self._pass_time()
        pods = {p["metadata"]["uid"]: p for p in self.cluster.pods()}
        for uid, process in list(self.processes.items()):
            if uid not in pods and process.node not in self.unreachable:
                self._drop(uid)  # the API object is gone: the kubelet kills what is left
                return True
        for uid, pod in pods.items():
            node = pod["spec"].get("nodeName")
            if node and node not in self.unreachable and self._sync(uid, pod, node):
                return True
        return False

    def due(self) -> float | None:
        now = self.cluster.now
        return min((t for p in self.processes.values() for t in p.due() if t > now), default=None)

    def _pass_time(self) -> None:
        now = self.cluster.now
        for process in self.processes.values():
            process.pass_time(now)

    def _sync(self, uid: str, pod: Obj, node: str) -> bool:
        process = self.processes.get(uid)
        deleting = "deletionTimestamp" in pod["metadata"]
        now = self.cluster.now
        if finished(pod):
            if deleting and pod["metadata"].get("deletionGracePeriodSeconds"):
                self.cluster.delete("", "pods", pod, gracePeriodSeconds=0)
                return True
            return False
        if process is None:
            if deleting or pod["status"].get("containerStatuses"):
                # Never started here, or the machine lost its memory: report it as failed.
                gone = Exit(137, "ContainerStatusUnknown", "", now)
                return self._report(pod, pod_status.ended(pod, gone, None, now))
            self.processes[uid] = Process.of(pod, node, self.programs(copy(pod)), now)
            return self._report(pod, pod_status.starting(pod, now))
        if deleting and process.alive() and process.killed_at is None:
            process.terminate(pod["metadata"].get("deletionGracePeriodSeconds") or 0, now)
            process.pass_time(now)
            if process.alive():
                return True
        if process.exit is not None:
            return self._report(pod, pod_status.ended(pod, process.exit, process, now))
        if process.running is None and process.init_running is None and not process.restarts and not process.init_exit:
            return process.program.image_pull_fails and self._report(pod, pod_status.pulling(pod))
        said = (pod["metadata"]["resourceVersion"], process.look(now))
        if self._said.get(uid) == said:
            return False
        self._said[uid] = said
        return self._report(pod, pod_status.current(pod, process, now, self._address(pod)))

    def _address(self, pod: Obj) -> str:
        if not self.gives_addresses or pod["status"].get("podIP"):
            return ""
        self._addresses += 1
        return f"10.244.{self._addresses // 250}.{self._addresses % 250 + 1}"

    def _report(self, pod: Obj, new: Obj) -> bool:
        """True if there was something new to say."""
        if new["status"] == pod["status"]:
            return False
        self.cluster.put("", "pods", new, "status")
        return True


__all__ = ["Kubelet", "Process", "Program"]
