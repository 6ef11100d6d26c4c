"""Talks to a trainer pod: its progress, and the request to make a checkpoint.

Pods are not trusted. The address must be a pod's (not loopback, link-local or a metadata service), redirects are not
followed, an answer is read up to 64 KiB within two seconds, and only the fields of `Progress` are taken from it.
"""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from finetune_api.reports import CheckpointRequest, Progress
from finetune_api.runconfig import PORT, TOKEN_HEADER
from finetune_operator.core.types import Probe
from finetune_operator.kube.addresses import NotAPod, pod_host

ANSWER_MAX = 64 * 1024
TIMEOUT = 2.0


class ProbeFailed(Exception):
    """Why a poll brought nothing, in a few words. It never ends a gang."""


def probe_session() -> aiohttp.ClientSession:
    """Without cookies, proxies or any of the API server's credentials."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
    )


class ProbeClient:
    def __init__(self, session: aiohttp.ClientSession, *, port: int = PORT, allow_loopback: bool = False) -> None:
        self._session = session
        self._port = port
        self._allow_loopback = allow_loopback

    async def progress(self, probe: Probe) -> Progress:
        """Raises ProbeFailed."""
        answer = await self._call(probe, "GET", "/progress", None)
        try:
            progress = Progress.model_validate(answer)
        except ValueError as error:
            raise ProbeFailed("the answer is not a progress report") from error
        if progress.attempt != probe.attempt:
            raise ProbeFailed(f"the answer is about attempt {progress.attempt}")
        return progress

    async def request_checkpoint(self, probe: Probe, reason: str, *, stop: bool) -> None:
        """Raises ProbeFailed. Repeated requests are one for the pod."""
        await self._call(probe, "POST", "/checkpoint", CheckpointRequest(reason=reason, stop=stop).to_wire())

    async def _call(self, probe: Probe, method: str, path: str, body: Any | None) -> Any:
        try:
            url = f"http://{pod_host(probe.ip, allow_loopback=self._allow_loopback)}:{self._port}{path}"
        except NotAPod as error:
            raise ProbeFailed(str(error)) from error
        try:
            async with self._session.request(
                method, url, json=body, headers={TOKEN_HEADER: probe.token}, allow_redirects=False
            ) as response:
                raw = await _read(response)
                if response.status not in (200, 202, 204):
                    raise ProbeFailed(f"{method} {path} answered {response.status}")
        except TimeoutError as error:
            raise ProbeFailed(f"{method} {path}: no answer within {TIMEOUT:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ProbeFailed(f"{method} {path}: {type(error).__name__}") from error
        try:
            return json.loads(raw) if raw else {}
        except (ValueError, RecursionError) as error:
            raise ProbeFailed(f"{method} {path}: the answer is not JSON") from error


async def _read(response: aiohttp.ClientResponse) -> bytes:
    raw = bytearray()
    async for chunk in response.content.iter_chunked(16 * 1024):
        raw += chunk
        if len(raw) > ANSWER_MAX:
            raise ProbeFailed(f"the answer is longer than {ANSWER_MAX} bytes")
    return bytes(raw)
