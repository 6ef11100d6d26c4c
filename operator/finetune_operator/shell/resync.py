"""LIST everything now and then, and compare with the store.

Watches lose events: what was deleted during a gap is never reported. The first round, before any plan is made, also
gives every plan a complete picture to start from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from finetune_operator.core.names import MANAGED_SELECTOR
from finetune_operator.core.types import (
    DEPLOYMENTS,
    FINETUNEJOBS,
    HTTPROUTES,
    JOBS,
    MODELDEPLOYMENTS,
    NODES,
    PODS,
    SERVICES,
    Resource,
)
from finetune_operator.kube import errors
from finetune_operator.kube.client import Client
from finetune_operator.kube.keys import Key, Ref, ref_of
from finetune_operator.kube.store import Store

log = logging.getLogger(__name__)
_SECOND_ROUND = 20.0  # seconds: what was deleted between the first round and the watches' own first list
SELECTORS: dict[Resource, str] = {
    NODES: "",
    SERVICES: MANAGED_SELECTOR,
    PODS: MANAGED_SELECTOR,
    JOBS: MANAGED_SELECTOR,
    DEPLOYMENTS: MANAGED_SELECTOR,
    HTTPROUTES: MANAGED_SELECTOR,
    FINETUNEJOBS: "",
    MODELDEPLOYMENTS: "",
}
"""What is watched and listed, children before their owners, and models before what serves them."""


def selectors(*, gateway_api: bool, deployments: bool = True) -> dict[Resource, str]:
    """Without what this cluster does not serve, or what is not planned."""
    absent = set() if gateway_api else {HTTPROUTES}
    if not deployments:
        absent |= {DEPLOYMENTS, HTTPROUTES, MODELDEPLOYMENTS}
    return {resource: selector for resource, selector in SELECTORS.items() if resource not in absent}


async def _nothing() -> None:
    return None


class Resync:
    """`clock` is monotonic seconds. `age` is since the newest complete round, or since the start.

    `afterwards` is called after each round but the first, for what else changes rarely and is never told.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        *,
        enqueue: Callable[[Key], None],
        clock: Callable[[], float],
        interval: float,
        selectors: Mapping[Resource, str] = SELECTORS,
        missed: Callable[[str, int], None] = lambda kind, count: None,
        afterwards: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        self._client = client
        self._store = store
        self._enqueue = enqueue
        self._clock = clock
        self._interval = interval
        self._missed = missed
        self._afterwards = afterwards
        self.selectors = selectors
        self._good = clock()
        self.rounds = 0

    @property
    def age(self) -> float:
        return self._clock() - self._good

    @property
    def stale(self) -> bool:
        """Three rounds in a row brought nothing."""
        return self.age > 3 * self._interval + 60

    async def round(self) -> None:
        """One LIST of every kind. Raises errors.ApiError; what was found until then is kept and wakes its keys."""
        began = self._clock()
        for resource, selector in self.selectors.items():
            await self._one(resource, selector)
        self._good = began
        self.rounds += 1
        if self.rounds == 1:
            known = self._store.keys()
            for key in known:
                self._enqueue(key)

    async def _one(self, resource: Resource, selector: str) -> None:
        for last in (False, True):
            listed: set[Ref] = set()
            version = ""
            try:
                async for page, at in self._client.pages(resource, selector=selector):
                    version = at
                    for obj in page:
                        listed.add(ref_of(obj))
                        self._found(resource, self._store.apply(None, obj))
                    await asyncio.sleep(0)  # watches and probes go on between pages
            except errors.Gone:
                if last:
                    raise
                continue
            self._found(resource, self._store.prune(resource.kind, listed, version))
            return

    def _found(self, resource: Resource, affected: frozenset[Key]) -> None:
        if self.rounds and affected:
            self._missed(resource.kind, len(affected))
            for key in affected:
                self._enqueue(key)

    async def run(self) -> None:
        """Rounds until cancelled; a failed one is tried again sooner."""
        pause = min(self._interval, _SECOND_ROUND)
        while True:
            await asyncio.sleep(pause)
            try:
                await self.round()
                await self._afterwards()
                pause = self._interval
            except errors.ApiError as error:
                pause = min(self._interval, 15.0)
                log.warning("resync failed: %s; trying again in %.0f s", error.message, pause)
