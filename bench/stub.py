"""Answers `GET /progress` and `POST /checkpoint` for every fake pod, and `/metrics` for every fake engine: all their
addresses are local (`sandbox`)."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from aiohttp import web

from finetune_api.reports import Progress, Stage
from finetune_api.runconfig import PORT
from finetune_api.serveconfig import ENGINE_PORT

_BEGAN = time.monotonic()
_FIRST_STEP = datetime.now(UTC)


def progress(seconds: float, now: datetime) -> Progress:
    """Ten steps a second, so that each poll finds something new."""
    return Progress(
        attempt=1,
        stage=Stage.TRAINING,
        step=int(seconds * 10),
        total_steps=1_000_000,
        loss=2.5 - min(2.0, seconds / 1000),
        tokens_per_second=12_000.0,
        step_seconds=0.1,
        running_at=_stamp(_FIRST_STEP),
        world_size=1,
        updated_at=_stamp(now),
    )


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


async def _progress(request: web.Request) -> web.Response:
    wire = progress(time.monotonic() - _BEGAN, datetime.now(UTC)).to_wire()
    return web.json_response(wire)


async def _checkpoint(request: web.Request) -> web.Response:
    return web.json_response({}, status=202)


def metrics(seconds: float) -> str:
    """Of an engine that ends ten requests a second."""
    labels = 'engine="0",model_name="bot"'
    done = int(seconds * 10)
    return (
        f"process_start_time_seconds 1.0\nvllm:num_requests_running{{{labels}}} 1.0\n"
        f"vllm:num_requests_waiting{{{labels}}} 0.0\nvllm:generation_tokens_total{{{labels}}} {16 * done}.0\n"
        f'vllm:request_success_total{{{labels},finished_reason="length"}} {done}.0\n'
    )


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(text=metrics(time.monotonic() - _BEGAN))


async def _completion(request: web.Request) -> web.Response:
    return web.json_response({"choices": [{"text": " yes", "finish_reason": "length"}]})


async def _serve() -> None:
    app = web.Application()
    app.add_routes([web.get("/progress", _progress), web.post("/checkpoint", _checkpoint)])
    app.add_routes([web.get("/metrics", _metrics), web.post("/v1/completions", _completion)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for port in (PORT, ENGINE_PORT):
        await web.TCPSite(runner, "0.0.0.0", port).start()
    await asyncio.get_running_loop().create_future()


def main() -> None:
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
