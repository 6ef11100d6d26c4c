"""Waiting for several things of which some must never end, and for a signal meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from finetune_operator.kube import errors
from finetune_operator.shell.election import LeaseLost

RETRY = 5.0
log = logging.getLogger(__name__)


async def first_of(stop: asyncio.Event, *tasks: asyncio.Task[Any]) -> bool:
    """Waits for the first of the tasks to end; False when the process is to stop. Raises LeaseLost from a task."""
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    if stopped in done:
        return False
    for task in done:
        if (error := task.exception()) is not None:
            if not isinstance(error, LeaseLost):
                log.error("%s ended", task.get_name(), exc_info=error)
                continue
            raise error
    return True


async def before_stop(stop: asyncio.Event, coro: Coroutine[Any, Any, Any]) -> Any:
    """The coroutine's result, or None when the process is to stop first."""
    task = asyncio.create_task(coro)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait({task})
    return None


async def persistently(action: Callable[[], Coroutine[Any, Any, Any]], what: str) -> Any:
    """Until it succeeds: an API server that is not there yet is no reason to crash."""
    while True:
        try:
            return await action()
        except errors.Forbidden as error:
            log.error("%s: %s; check the operator's role", what, error.message)
        except errors.ApiError as error:
            log.warning("%s: %s; trying again in %.0f s", what, error.message, RETRY)
        await asyncio.sleep(RETRY)
