"""Clients: requests that arrive all the time and are split by the route that the Gateway has in effect.

They see the cluster as a data plane does, a little late: endpoints and weights of `lag` seconds ago. Every request's
end is counted, by revision, so that a test can say "none was lost" and mean it.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from fakeapi.controllers import Controller
from fakeapi.controllers.base import is_true
from fakeapi.selectors import label_selector
from fakeapi.store import Change

from finetune_operator.core.names import LABEL_REVISION, LABEL_ROLE, ROLE_ENGINE

from .engines import Engine

if TYPE_CHECKING:
    from fakeapi import World

Obj = dict[str, Any]
LAG = 0.5


class Backend(NamedTuple):
    revision: str
    engines: tuple[Engine, ...]


@dataclass
class Client:
    """Everybody who talks to one ModelDeployment."""

    rate: float
    """Requests a second."""
    next: float
    sent: Counter[str] = field(default_factory=Counter)
    """By revision."""
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By revision and how: ok, error, aborted, died, no endpoint; ("", "no route")."""
    served: bool = False
    """There was a route once: before that nobody comes."""
    weights: tuple[int, ...] = ()
    """Running sums."""
    backends: tuple[Backend, ...] = ()

    @property
    def lost(self) -> dict[tuple[str, str], int]:
        return {what: n for what, n in self.ended.items() if what[1] != "ok" and n}


class Clients(Controller):
    """As a controller it only keeps time moving while an engine may crash by what it is sent."""

    name = "clients"

    def __init__(self, world: World, seed: int) -> None:
        super().__init__(world.server)
        self._world = world
        self._rng = random.Random(f"clients/{seed}")
        self.of: dict[tuple[str, str], Client] = {}
        self.engines: dict[str, Engine] = {}
        """By pod uid."""
        self._views: deque[tuple[float, dict[tuple[str, str], Any]]] = deque()
        self._busy = False
        world.server.store.subscribe(self._on_change)
        world.gateway.on_effect = self._look

    def want(self, namespace: str, name: str, rate: float) -> Client:
        self.catch_up()
        client = self.of.get((namespace, name))
        if client is None:
            client = self.of[(namespace, name)] = Client(rate, self.cluster.now)
            self._look()
        client.rate = rate
        return client

    def step(self) -> bool:
        self.catch_up()
        return False

    def due(self) -> float | None:
        fuses = (e for e in self.engines.values() if e.up and e.crashed_at is None)
        if any(e.behaviour.crash_after is not None for e in fuses) and any(c.rate for c in self.of.values()):
            return self.cluster.now + 0.5
        return None

    def catch_up(self) -> None:
        """Sends everything until now."""
        if self._busy:
            return
        self._busy = True
        now = self.cluster.now
        while self._views and self._views[0][0] <= now:
            at, view = self._views.popleft()
            self._send_until(at)
            self._take(view)
        self._send_until(now)
        self._busy = False

    def _send_until(self, end: float) -> None:
        for client in self.of.values():
            if not client.rate or not client.served:
                client.next = end
                continue
            while client.next <= end:
                self._send(client, client.next)
                client.next += self._rng.expovariate(client.rate)

    def _send(self, client: Client, at: float) -> None:
        if not client.weights or not client.weights[-1]:
            client.ended["", "no route"] += 1
            return
        chosen = client.backends[bisect_right(client.weights, self._rng.random() * client.weights[-1])]
        client.sent[chosen.revision] += 1
        if not chosen.engines:
            client.ended[chosen.revision, "no endpoint"] += 1
            return
        ended, revision = client.ended, chosen.revision

        def done(how: str) -> None:
            ended[revision, how] += 1

        engine = chosen.engines[int(self._rng.random() * len(chosen.engines))]
        engine.arrive(at, done)

    # What the data plane knows

    def _on_change(self, change: Change) -> None:
        if not self.of or change.key.plural not in ("pods", "services"):
            return
        labels = (change.new or change.last)["metadata"].get("labels") or {}
        if change.key.plural == "services" or labels.get(LABEL_ROLE) == ROLE_ENGINE:
            self._look()

    def _look(self) -> None:
        if self.of:
            self._views.append((self.cluster.now + LAG, {where: self._view(where) for where in self.of}))

    def _view(self, where: tuple[str, str]) -> list[tuple[int, Backend]]:
        route = self._world.gateway.in_effect.get(where)
        refs = [ref for rule in (route or {}).get("rules") or [] for ref in rule.get("backendRefs") or []]
        return [(int(ref.get("weight", 1)), self._backend(where[0], ref["name"])) for ref in refs]

    def _backend(self, namespace: str, name: str) -> Backend:
        service = self.cluster.find("", "services", namespace, name)
        if service is None:
            return Backend("", ())
        engines = [
            self.engines[pod["metadata"]["uid"]]
            for pod in self.cluster.pods()
            if pod["metadata"]["namespace"] == namespace
            and label_selector({"matchLabels": service["spec"]["selector"]}, pod["metadata"].get("labels") or {})
            and is_true(pod, "Ready")
            and "deletionTimestamp" not in pod["metadata"]
            and pod["metadata"]["uid"] in self.engines
        ]
        return Backend(service["metadata"]["labels"].get(LABEL_REVISION, ""), tuple(engines))

    def _take(self, view: dict[tuple[str, str], list[tuple[int, Backend]]]) -> None:
        for where, backends in view.items():
            client, total, sums = self.of[where], 0, []
            for weight, _ in backends:
                total += weight
                sums.append(total)
            client.served = client.served or total > 0
            client.weights, client.backends = tuple(sums), tuple(b for _, b in backends)
