"""Answers `GET /progress` and `POST /checkpoint` for every fake pod: all their addresses are local (`sandbox`)."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from aiohttp import web

from finetune_api.reports import Progress, Stage
from finetune_api.runconfig import PORT

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


def main() -> None:
    app = web.Application()
    app.add_routes([web.get("/progress", _progress), web.post("/checkpoint", _checkpoint)])
    web.run_app(app, host="0.0.0.0", port=PORT, print=None, access_log=None)


if __name__ == "__main__":
    main()
