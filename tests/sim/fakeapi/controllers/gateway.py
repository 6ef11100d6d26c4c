"""A Gateway controller: it answers HTTPRoutes in their status and puts what it accepted into effect.

`answer` may be replaced: a parent that is refused, or None for a Gateway that says nothing. What is in effect is the
newest spec that was accepted, from a little after it was written: data planes lag behind the API server.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from fakeapi.jsontools import copy, rfc3339
from fakeapi.server import FakeApiServer

from .base import Controller, Obj

HTTPROUTES = ("gateway.networking.k8s.io", "httproutes")


class Answer(NamedTuple):
    accepted: bool = True
    reason: str = "Accepted"
    message: str = ""


ACCEPTED = Answer()


class Gateway(Controller):
    name = "gateway-controller"

    def __init__(self, server: FakeApiServer, rng: random.Random | None = None) -> None:
        super().__init__(server)
        self._rng = rng or random.Random(1)
        self.answer: Callable[[Obj, Obj], Answer | None] = lambda route, parent: ACCEPTED
        self.lag = (0.0, 0.4)
        """Seconds between a write of the route and the Gateway's answer: from, to."""
        self.in_effect: dict[tuple[str, str], Obj] = {}
        self.on_effect: Callable[[], None] = lambda: None
        self._due: dict[tuple[str, int], float] = {}

    def step(self) -> bool:
        if HTTPROUTES not in self.cluster.server.resources:
            return False
        routes = self.cluster.objects(*HTTPROUTES)
        here = {(r["metadata"]["namespace"], r["metadata"]["name"]) for r in routes}
        for gone in [where for where in self.in_effect if where not in here]:
            del self.in_effect[gone]
            self.on_effect()
        return any(self._sync(route) for route in routes)

    def due(self) -> float | None:
        return min((t for t in self._due.values() if t > self.cluster.now), default=None)

    def _sync(self, route: Obj) -> bool:
        meta = route["metadata"]
        seen = (meta["uid"], meta["generation"])
        due = self._due.setdefault(seen, self.cluster.now + self._rng.uniform(*self.lag))
        if self.cluster.now < due:
            return False
        parents = [p for ref in route["spec"].get("parentRefs") or [] if (p := self._parent(route, ref)) is not None]
        others = [
            p for p in (route.get("status") or {}).get("parents") or [] if p.get("controllerName") != self.controller
        ]
        accepted = bool(parents) and all(c["status"] == "True" for p in parents for c in p["conditions"][:1])
        where = (meta["namespace"], meta["name"])
        if accepted and self.in_effect.get(where) != route["spec"]:
            self.in_effect[where] = route["spec"]
            self.on_effect()
        status = {"parents": [*others, *parents]}
        if not parents or status == route.get("status"):
            return False
        self.cluster.put(*HTTPROUTES, {**route, "status": status}, "status")
        return True

    @property
    def controller(self) -> str:
        return "example.test/gateway-controller"

    def _parent(self, route: Obj, ref: Obj) -> Obj | None:
        answer = self.answer(route, ref)
        if answer is None:
            return None
        missing = self._missing(route)
        resolved = Answer(not missing, "BackendNotFound" if missing else "ResolvedRefs", ", ".join(missing))
        old = [p for p in (route.get("status") or {}).get("parents") or [] if p["parentRef"] == ref]
        known = {c["type"]: c for p in old for c in p["conditions"]}
        return {
            "parentRef": copy(ref),
            "controllerName": self.controller,
            "conditions": [
                self._condition(route, "Accepted", answer, known), self._condition(route, "ResolvedRefs", resolved, known)
            ],
        }  # fmt: skip

    def _condition(self, route: Obj, kind: str, answer: Answer, known: dict[str, Obj]) -> Obj:
        status = "True" if answer.accepted else "False"
        old = known.get(kind)
        same = old is not None and old["status"] == status
        return {
            "type": kind,
            "status": status,
            "reason": answer.reason,
            "message": answer.message,
            "observedGeneration": route["metadata"]["generation"],
            "lastTransitionTime": old["lastTransitionTime"] if old is not None and same else rfc3339(self.cluster.now),
        }

    def _missing(self, route: Obj) -> list[str]:
        namespace = route["metadata"]["namespace"]
        refs = [b for rule in route["spec"].get("rules") or [] for b in rule.get("backendRefs") or []]
        names = [r["name"] for r in refs if not self.cluster.find("", "services", namespace, r["name"])]
        return [f"Service {name} is missing" for name in names]
