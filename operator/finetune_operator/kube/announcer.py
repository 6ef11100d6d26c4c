"""Sends Events beside the passes that have something to say.

An Event informs, and nobody waits for it. Sent by the pass itself it stood between a decision that was just stored and
the pass that acts on it: two of eight calls on the way from a new job to its gang. The Events of one object are sent
in their order. A flood keeps the newest; what is not sent when the process is killed is lost, as any Event may be.
"""

from __future__ import annotations

import asyncio
import logging

from finetune_operator.core.types import EVENTS
from finetune_operator.kube import errors
from finetune_operator.kube.client import Client
from finetune_operator.kube.compact import Json

_SENDERS = 4
_KEPT = 2_500
log = logging.getLogger(__name__)


class Announcer:
    """`run` sends until it is cancelled."""

    def __init__(self, client: Client, *, senders: int = _SENDERS, kept: int = _KEPT) -> None:
        """`kept`: Events waiting for each sender; the oldest makes place."""
        self._client = client
        self._waiting: list[asyncio.Queue[Json]] = [asyncio.Queue(kept) for _ in range(senders)]

    def __call__(self, event: Json) -> None:
        queue = self._waiting[hash(event["involvedObject"].get("uid")) % len(self._waiting)]
        if queue.full():
            queue.get_nowait()
            queue.task_done()
        queue.put_nowait(event)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for queue in self._waiting:
                group.create_task(self._send(queue))

    async def drained(self) -> None:
        """Returns when nothing waits to be sent."""
        for queue in self._waiting:
            await queue.join()

    async def _send(self, queue: asyncio.Queue[Json]) -> None:
        while True:
            event = await queue.get()
            try:
                await post(self._client, event)
            except Exception:
                log.exception("an Event could not be sent")
            finally:
                queue.task_done()


async def post(client: Client, event: Json) -> bool:
    """Whether it was taken; a lost one is not worth a retry."""
    try:
        await client.create(EVENTS, event["metadata"]["namespace"], event)
    except errors.ApiError:
        return False
    return True
