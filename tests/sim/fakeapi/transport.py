"""The in-process transport: the shape of the operator's own transport seam, without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from .frontend import Frontend


class FakeTransport:
    """`request(method, path, …) -> (status, headers, decoded JSON)`.

    Raises TimeoutError or ConnectionResetError where the fault policy cuts the connection, and Crash where it
    kills the client. `client` names the process: faults and the write log go by it.
    """

    def __init__(self, frontend: Frontend, client: str = "operator") -> None:
        self._frontend, self.client = frontend, client
        self.dead = False

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any | None = None,
        content_type: str | None = None,
        timeout: float = 30.0,
    ) -> tuple[int, dict[str, str], Any]:
        await asyncio.sleep(0)  # a real request lets others run
        if self.dead:
            raise ConnectionResetError("this process was killed")
        if isinstance(body, str | bytes):
            body = json.loads(body)
        headers = {"content-type": content_type or "application/json", "user-agent": self.client}
        sent = {key: str(value) for key, value in (params or {}).items()}
        response = self._frontend.request(method, path, sent, headers, body, client=self.client)
        await asyncio.sleep(0)
        if self.dead:
            raise ConnectionResetError("this process was killed")
        return response.status, response.headers, response.body

    async def close(self) -> None:
        self.dead = True
