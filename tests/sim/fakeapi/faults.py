"""What can go wrong between a client and the API server, decided by one policy object per simulation.

A policy is asked before a request is executed, after it was executed (and before the answer leaves), and for every
event of a watch. It knows the client's name, so that only the operator suffers and the simulated cluster does not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .routes import Call


class Crash(BaseException):
    """The client's process dies here. A BaseException: no `except Exception` may survive its own death."""


@dataclass(frozen=True)
class Refuse:
    """Answered without being executed."""

    code: int
    retry_after: int | None = None


@dataclass(frozen=True)
class Cut:
    """The connection breaks: before execution nothing happened, after execution the answer is lost."""

    timeout: bool = True


@dataclass(frozen=True)
class Die:
    """The client crashes at this very moment."""


@dataclass(frozen=True)
class Stale:
    """A LIST is answered from the state `back` revisions ago."""

    back: int


Fault = Refuse | Cut | Die | Stale


class Policy:
    """No faults. Subclasses override what they need."""

    def before(self, call: Call) -> Fault | None:
        return None

    def after(self, call: Call, status: int) -> Fault | None:
        return None

    def events(self, client: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return events

    def cut_watch(self, client: str) -> bool:
        return False


@dataclass
class CrashAtWrite(Policy):
    """The client dies at its k-th write (from 1), right before or right after it was committed."""

    k: int
    committed: bool
    client: str
    seen: int = 0
    happened: Call | None = None

    def before(self, call: Call) -> Fault | None:
        if call.client != self.client or not call.writes:
            return None
        self.seen += 1
        if self.seen == self.k and not self.committed:
            self.happened = call
            return Die()
        return None

    def after(self, call: Call, status: int) -> Fault | None:
        if call.client == self.client and call.writes and self.seen == self.k and self.committed:
            self.happened = call
            return Die()
        return None


@dataclass
class Rule:
    """`times` matching requests of the client get this fault, before execution or after it."""

    matches: Callable[[Call], bool]
    fault: Fault
    after: bool = False
    times: int = 1


@dataclass
class Script(Policy):
    rules: list[Rule] = field(default_factory=list)

    def add(self, matches: Callable[[Call], bool], fault: Fault, *, after: bool = False, times: int = 1) -> None:
        self.rules.append(Rule(matches, fault, after, times))

    def _next(self, call: Call, after: bool) -> Fault | None:
        for rule in self.rules:
            if rule.times > 0 and rule.after == after and rule.matches(call):
                rule.times -= 1
                return rule.fault
        return None

    def before(self, call: Call) -> Fault | None:
        return self._next(call, False)

    def after(self, call: Call, status: int) -> Fault | None:
        return self._next(call, True)


@dataclass
class Partition(Policy):
    """While `on`, the client reaches nothing and sees no events."""

    client: str
    on: bool = False

    def before(self, call: Call) -> Fault | None:
        return Cut() if self.on and call.client == self.client else None

    def cut_watch(self, client: str) -> bool:
        return self.on and client == self.client


@dataclass
class RandomFaults(Policy):
    """Seeded noise at given rates, for one client, while `on`."""

    rng: random.Random
    client: str
    refuse: float = 0.0
    lose: float = 0.0
    stale: float = 0.0
    die: float = 0.0
    drop_event: float = 0.0
    repeat_event: float = 0.0
    hold_event: float = 0.0
    on: bool = True
    _held: list[dict[str, Any]] = field(default_factory=list)

    def before(self, call: Call) -> Fault | None:
        if not self.on or call.client != self.client:
            return None
        draw = self.rng.random()
        if draw < self.refuse:
            code = self.rng.choice([409, 429, 500, 503]) if call.writes else self.rng.choice([429, 500, 503])
            return Refuse(code, retry_after=1 if code == 429 else None)
        if call.writes and self.rng.random() < self.die / 2:
            return Die()
        if call.lists and self.rng.random() < self.stale:
            return Stale(self.rng.randint(1, 5))
        return None

    def after(self, call: Call, status: int) -> Fault | None:
        if not self.on or call.client != self.client:
            return None
        if self.rng.random() < self.lose:
            return Cut()
        if call.writes and self.rng.random() < self.die / 2:
            return Die()
        return None

    def events(self, client: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if client != self.client:
            return events
        released, self._held = self._held, []
        out = []
        for event in events:
            if not self.on or event["type"] in ("BOOKMARK", "ERROR"):
                out.append(event)
                continue
            draw = self.rng.random()
            if draw < self.drop_event:
                continue
            if draw < self.drop_event + self.hold_event:
                self._held.append(event)
                continue
            out.append(event)
            if draw > 1 - self.repeat_event:
                out.append(event)
        return out + released


@dataclass
class Together(Policy):
    """Several policies; the first that speaks decides."""

    policies: Sequence[Policy]

    def before(self, call: Call) -> Fault | None:
        return next((f for p in self.policies if (f := p.before(call)) is not None), None)

    def after(self, call: Call, status: int) -> Fault | None:
        return next((f for p in self.policies if (f := p.after(call, status)) is not None), None)

    def events(self, client: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for policy in self.policies:
            events = policy.events(client, events)
        return events

    def cut_watch(self, client: str) -> bool:
        return any(p.cut_watch(client) for p in self.policies)
