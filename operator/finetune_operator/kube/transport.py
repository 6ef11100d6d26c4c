"""The real transport: aiohttp. One session serves Kopf's watches and our calls, so that they share a login."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiohttp


class AiohttpTransport:
    """`session` carries TLS and authentication; it may be exchanged after a new login."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self.session = session
        self.server = server.rstrip("/")

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any | None = None,
        content_type: str | None = None,
        timeout: float = 30.0,  # noqa: ASYNC109
    ) -> tuple[int, Mapping[str, str], Any]:
        headers = {"Accept": "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        data = json.dumps(body, separators=(",", ":")).encode() if body is not None else None
        try:
            async with self.session.request(
                method,
                self.server + path,
                params=params,
                data=data,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout),
                allow_redirects=False,
            ) as response:
                raw = await response.read()
                return response.status, response.headers, _parse(raw)
        except TimeoutError:
            raise
        except aiohttp.ClientError as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        except RuntimeError as error:
            if self.session.closed:
                raise ConnectionError("the session was closed for a new login") from error
            raise


def _parse(raw: bytes) -> Any:
    if not raw:
        return {}
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")
