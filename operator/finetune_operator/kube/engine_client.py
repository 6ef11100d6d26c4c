"""Talks to an engine: its metrics, and one completion of one token.

As with trainer pods, nothing that comes back is trusted: only pods' addresses are called, redirects are not followed,
answers are read up to a bound, and of a completion only whether there is one.
"""

from __future__ import annotations

import asyncio
import json
from enum import Enum
from typing import Any

import aiohttp

from finetune_api.serveconfig import ENGINE_PORT
from finetune_operator.core.serving.types import Target
from finetune_operator.kube.addresses import NotAPod, pod_host

PAGE_MAX = 4 * 1024 * 1024
ANSWER_MAX = 64 * 1024
TIMEOUT = 3.0
_WORDS_MAX = 160
_NO_ANSWER = ("abort", "error")


class Mark(Enum):
    """What a failed completion left in the engine's counters."""

    NONE = "none"
    REFUSED = "answered with 5xx"
    GIVEN_UP = "aborted by us"


class EngineFailed(Exception):
    """Why an engine did not do what was asked, in words."""

    def __init__(self, words: str, mark: Mark = Mark.NONE) -> None:
        super().__init__(words)
        self.mark = mark


def engine_session() -> aiohttp.ClientSession:
    """Without cookies, proxies or any of the API server's credentials."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


class EngineClient:
    def __init__(
        self, session: aiohttp.ClientSession, *, port: int = ENGINE_PORT, allow_loopback: bool = False
    ) -> None:
        self._session = session
        self._port = port
        self._allow_loopback = allow_loopback

    async def metrics(self, target: Target) -> bytes:
        """The page. Raises EngineFailed."""
        status, page = await self._call(target, "GET", "/metrics", None, TIMEOUT, PAGE_MAX)
        if status != 200:
            raise EngineFailed(f"GET /metrics answered {status}")
        return page

    async def complete(self, target: Target, timeout: float) -> None:  # noqa: ASYNC109 - the engine's, not ours
        """Returns when one token was generated. Raises EngineFailed."""
        body = {"model": target.served_name, "prompt": "Hello", "max_tokens": 1, "temperature": 0, "stream": False}
        path = "/v1/completions"
        status, raw = await self._call(target, "POST", path, body, timeout, ANSWER_MAX)
        if status != 200:
            mark = Mark.REFUSED if status >= 500 else Mark.NONE
            raise EngineFailed(f"POST {path} answered {status}{_reason(raw)}", mark)
        choice = _first_choice(raw)
        if choice is None:
            raise EngineFailed(f"POST {path} answered 200 without a completion")
        if choice.get("finish_reason") in _NO_ANSWER:
            raise EngineFailed(f"POST {path} ended with finish_reason {choice['finish_reason']}", Mark.GIVEN_UP)

    async def _call(
        self, target: Target, method: str, path: str, body: Any | None, seconds: float, limit: int
    ) -> tuple[int, bytes]:
        try:
            host = pod_host(target.ip, allow_loopback=self._allow_loopback)
        except NotAPod as error:
            raise EngineFailed(str(error)) from error
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.request(
                    method, f"http://{host}:{self._port}{path}", json=body, allow_redirects=False
                ) as response,
            ):
                return response.status, await _read(response, limit)
        except TimeoutError as error:
            raise EngineFailed(f"{method} {path}: no answer within {seconds:g} s", Mark.GIVEN_UP) from error
        except (aiohttp.ClientError, OSError) as error:
            raise EngineFailed(f"{method} {path}: {_words(error)}") from error


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    raw = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        raw += chunk
        if len(raw) > limit:
            raise EngineFailed(f"the answer is longer than {limit} bytes")
    return bytes(raw)


def _words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connection refused"
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError):
        return "the connection was closed before an answer"
    return type(error).__name__


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _reason(raw: bytes) -> str:
    """The engine's own words, clipped."""
    answer = _json(raw)
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return f": {' '.join(message.split())[:_WORDS_MAX]}" if isinstance(message, str) and message else ""


def _first_choice(raw: bytes) -> dict[str, Any] | None:
    answer = _json(raw)
    choices = answer.get("choices") if isinstance(answer, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None
