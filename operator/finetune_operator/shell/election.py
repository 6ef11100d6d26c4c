"""Who leads: one Lease, held by renewing it.

Time is measured on the own monotonic clock only: another holder is dead when its Lease was not renewed for its duration
as *we* saw it, however wrong anybody's wall clock is. The holder gives up well before others may take over: it stops at
the renew deadline, which is shorter than the duration. Losing the Lease ends the process, because nothing else stops
every write that is under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finetune_operator.core.types import LEASES
from finetune_operator.kube import errors
from finetune_operator.kube.client import Client
from finetune_operator.kube.compact import Json

LEASE_NAME = "finetune-operator"
log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """The process may not act any longer."""


@dataclass(frozen=True)
class Timing:
    """Seconds. renew < deadline < duration."""

    duration: float = 15.0

    @property
    def deadline(self) -> float:
        return self.duration * 2 / 3

    @property
    def retry(self) -> float:
        return self.duration / 6

    @property
    def patience(self) -> float:
        """With one renewal: a connection that went silent must leave time for another."""
        return self.deadline / 3


class Election:
    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        identity: str,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        timing: Timing = Timing(),
        name: str = LEASE_NAME,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._now = now
        self._timing = timing
        self._name = name
        self._sleep = sleep
        self._seen: tuple[Any, ...] | None = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None
        self._held: Json | None = None
        self.owners: Sequence[Json] = ()
        """Owner references of a Lease that is made anew."""
        self.reached_at: float | None = None
        """When the Lease was last read or written."""

    @property
    def leading(self) -> bool:
        return self._renewed_at is not None and self._clock() - self._renewed_at < self._timing.deadline

    async def acquire(self) -> None:
        """Returns when this process leads."""
        while not await self._attempt():
            await self._sleep(self._timing.retry)
        log.info("leading", extra={"identity": self._identity})

    async def hold(self) -> None:
        """Renews until the Lease is lost. Raises LeaseLost."""
        while True:
            await self._sleep(self._timing.retry)
            assert self._renewed_at is not None
            left = self._timing.deadline - (self._clock() - self._renewed_at)
            if left <= 0:
                raise LeaseLost(f"not renewed for {self._timing.deadline:g} s")
            if not await self._attempt(limit=min(left, self._timing.patience)) and self._held is None:
                raise LeaseLost("another replica holds it")

    async def release(self) -> None:
        """Lets the next replica start at once. Best effort."""
        held, self._renewed_at = self._held, None
        if held is None:
            return
        self._held = None
        body = self._body(held, holder="", duration=1)
        try:
            async with asyncio.timeout(self._timing.retry):
                await self._client.replace(LEASES, self._namespace, self._name, body)
        except (errors.ApiError, TimeoutError):
            log.warning("the lease was not released; it expires by itself")

    async def _attempt(self, limit: float | None = None) -> bool:
        """Takes or renews the Lease. While holding, `_held` None afterwards means that it is somebody else's."""
        began = self._clock()
        try:
            async with asyncio.timeout(limit if limit is not None else self._timing.deadline):
                lease = await self._read()
                self.reached_at = self._clock()
                if lease is None:
                    body = self._body(None, holder=self._identity)
                    written = await self._client.create(LEASES, self._namespace, body)
                elif self._may_take(lease):
                    body = self._body(lease, holder=self._identity)
                    written = await self._client.replace(LEASES, self._namespace, self._name, body)
                else:
                    self._held = None
                    return False
        except errors.Conflict:
            return False
        except (errors.ApiError, TimeoutError) as error:
            log.warning("lease: %s", error if str(error) else "no answer in time")
            return False
        self._held = written
        self._renewed_at = began
        return True

    async def _read(self) -> Json | None:
        try:
            return await self._client.get(LEASES, self._namespace, self._name)
        except errors.NotFound:
            return None

    def _may_take(self, lease: Json) -> bool:
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self._identity):
            return True
        record = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if record != self._seen:
            self._seen, self._seen_at = record, self._clock()
            return False
        duration = float(spec.get("leaseDurationSeconds") or self._timing.duration)
        return self._clock() - self._seen_at > duration

    def _body(self, lease: Json | None, *, holder: str, duration: float | None = None) -> Json:
        spec = (lease or {}).get("spec") or {}
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        changes = int(spec.get("leaseTransitions") or 0)
        same = spec.get("holderIdentity") == holder
        meta: Json = {"name": self._name, "namespace": self._namespace, "ownerReferences": list(self.owners)}
        if lease is not None:
            meta = {k: v for k, v in lease["metadata"].items() if k != "managedFields"}
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": meta,
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": max(1, round(duration if duration is not None else self._timing.duration)),
                "acquireTime": spec.get("acquireTime", stamp) if same else stamp,
                "renewTime": stamp,
                "leaseTransitions": changes if same or not holder or lease is None else changes + 1,
            },
        }
