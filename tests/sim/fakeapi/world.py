"""The whole simulated cluster: API server, controllers, nodes, and a clock that moves only when asked.

world = World(nodes={"n1": {"cpu": "8", "nvidia.com/gpu": "8"}})
world.api.create(...)
world.run_until(lambda: world.get("batch", "jobs", "default", "j")["status"].get("succeeded") == 1)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from .clock import FakeClock
from .controllers import (
    Cluster,
    Controller,
    DeploymentController,
    GarbageCollector,
    Gateway,
    JobController,
    Kubelet,
    NodeLifecycle,
    PodCollector,
    Program,
    ReplicaSetController,
    Scheduler,
)
from .faults import Policy
from .frontend import Frontend
from .server import FakeApiServer
from .transport import FakeTransport

Obj = dict[str, Any]


class World:
    """`step()` lets one randomly chosen controller make one change; `settle()` until nobody can; `advance()` and
    `run_until()` move time. One seed gives one history."""

    def __init__(
        self,
        nodes: Mapping[str, Mapping[str, str]] | None = None,
        *,
        seed: int = 0,
        programs: Callable[[Obj], Program] | None = None,
        policy: Policy | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.rng = random.Random(seed)
        self.server = FakeApiServer(self.clock, seed=seed)
        self.frontend = Frontend(self.server, policy)
        self.kubelet = Kubelet(self.server, programs)
        self.jobs = JobController(self.server, self.rng)
        self.gateway = Gateway(self.server, self.rng)
        self.controllers: list[Controller] = [
            self.jobs,
            DeploymentController(self.server),
            ReplicaSetController(self.server, self.rng),
            self.gateway,
            Scheduler(self.server),
            self.kubelet,
            NodeLifecycle(self.server, self.kubelet),
            PodCollector(self.server),
            GarbageCollector(self.server),
        ]
        self.api = Cluster(self.server, "user")
        for name, capacity in (nodes or {}).items():
            self.add_node(name, capacity)

    # The cluster's inhabitants

    def add_node(self, name: str, capacity: Mapping[str, str], labels: Mapping[str, str] | None = None) -> Obj:
        room = {"pods": "110", "cpu": "64", "memory": "256Gi", **capacity}
        body = {
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
            "spec": {},
            "status": {
                "capacity": room,
                "allocatable": room,
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            },
        }
        return self.api.create("", "nodes", "", body)

    def taint(self, node: str, key: str, effect: str = "NoSchedule", value: str = "") -> None:
        obj = self.get("", "nodes", "", node)
        taints = [*(obj["spec"].get("taints") or []), {"key": key, "effect": effect, "value": value}]
        self.api.put("", "nodes", {**obj, "spec": {**obj["spec"], "taints": taints}})

    def cut_off(self, node: str) -> None:
        """The node loses its network: its processes go on, nothing is heard of them."""
        self.kubelet.unreachable.add(node)

    def reconnect(self, node: str) -> None:
        self.kubelet.unreachable.discard(node)

    def destroy(self, node: str) -> None:
        """The machine and its Node object are gone."""
        self.kubelet.lose_node(node)
        self.api.delete("", "nodes", self.get("", "nodes", "", node))

    def transport(self, client: str = "operator") -> FakeTransport:
        return FakeTransport(self.frontend, client)

    # Looking

    def get(self, group: str, plural: str, namespace: str, name: str) -> Obj:
        return self.server.get(self.server.resource(group, plural), namespace, name)

    def find(self, group: str, plural: str, namespace: str, name: str) -> Obj | None:
        return self.api.find(group, plural, namespace, name)

    def pods(self) -> list[Obj]:
        return self.api.pods()

    # Time

    def step(self) -> bool:
        order = list(self.controllers)
        self.rng.shuffle(order)
        return any(controller.step() for controller in order)

    def settle(self, max_steps: int = 5000) -> int:
        """Steps until nothing moves at this instant; returns how many there were."""
        for n in range(max_steps):
            if not self.step():
                return n
        raise AssertionError(f"the cluster does not come to rest in {max_steps} steps: {self.recent()}")

    def due(self) -> float | None:
        times = [t for c in self.controllers if (t := c.due()) is not None]
        return min(times, default=None)

    def advance(self, seconds: float) -> None:
        """Settles, then lets time pass from event to event."""
        end = self.clock.now() + seconds
        self.settle()
        while (at := self.due()) is not None and at <= end:
            self.clock.advance(max(0.0, at - self.clock.now()))
            self.settle()
        self.clock.advance(max(0.0, end - self.clock.now()))
        self.settle()

    def run_until(self, predicate: Callable[[], bool], *, max_seconds: float = 3600, max_steps: int = 20000) -> None:
        """Steps, and moves time where nothing moves, until the predicate holds."""
        end = self.clock.now() + max_seconds
        for _ in range(max_steps):
            if predicate():
                return
            if self.step():
                continue
            at = self.due()
            if at is None or at > end:
                break
            self.clock.advance(at - self.clock.now())
        raise AssertionError(f"not reached by {self.clock.now()}: {self.recent()}")

    def recent(self, count: int = 15) -> str:
        return "\n".join(str(w) for w in self.server.writes.entries[-count:])
