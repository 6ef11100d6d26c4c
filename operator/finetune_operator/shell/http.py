"""`/livez`, `/readyz` and `/metrics` on one port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from finetune_operator.shell.config import ConfigError
from finetune_operator.shell.metrics import Metrics

LAG_MAX = 10.0
_LAG_PERIOD = 1.0
Check = Callable[[], str | None]
"""None when all is well, else what is wrong."""


class LagMeter:
    """How late the event loop is: a loop that hangs must be restarted, whatever else seems well."""

    def __init__(self, clock: Callable[[], float], metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self.lag = 0.0

    async def run(self) -> None:
        while True:
            due = self._clock() + _LAG_PERIOD
            await asyncio.sleep(_LAG_PERIOD)
            self.lag = max(0.0, self._clock() - due)
            self._metrics.loop_lag.set(self.lag)

    def check(self) -> str | None:
        return f"the event loop is {self.lag:.1f} s late" if self.lag > LAG_MAX else None


def application(*, live: Check, ready: Check, metrics: Metrics) -> web.Application:
    async def livez(request: web.Request) -> web.Response:
        return _answer(live())

    async def readyz(request: web.Request) -> web.Response:
        return _answer(ready())

    async def scrape(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    return app


async def serve(app: web.Application, host: str, port: int) -> web.AppRunner:
    """Listens until `cleanup()` of what it returns. Raises ConfigError when the address is taken."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(f"--listen {host}:{port}: {error.strerror or error}; choose a free address") from error
    return runner


def _answer(problem: str | None) -> web.Response:
    return web.Response(text="ok\n") if problem is None else web.Response(status=503, text=problem + "\n")
