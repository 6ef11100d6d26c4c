"""Keep-alive requests over plain sockets: who answered, when, and how many a second. As little of its own as can be."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field


class Broken(Exception):
    """The other side did not answer as HTTP/1.1 with 200 and a length."""


@dataclass
class Asker:
    """One connection. `address` is host:port, `host` what the Host header says."""

    address: str
    host: str
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None
    _request: bytes = field(default=b"", init=False)

    async def __aenter__(self) -> Asker:
        host, _, port = self.address.rpartition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        body = b'{"model": "bot", "prompt": "I was charged twice", "max_tokens": 16}'
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._writer is not None
        self._writer.close()

    async def ask(self) -> tuple[int, bytes]:
        """Status and body."""
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(self._request)
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            _, _, rest = head.partition(b"content-length:")
            body = await self._reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
            return int(head.split(b" ", 2)[1]), body
        except (asyncio.IncompleteReadError, ValueError) as error:
            raise Broken(f"{self.address}: {error}") from error


@dataclass(frozen=True)
class Rate:
    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


async def rate(address: str, host: str, *, connections: int, seconds: float) -> Rate:
    """Each connection asks again as soon as it is answered."""
    took: list[float] = []
    failed = 0

    async def lane(until: float) -> None:
        nonlocal failed
        async with Asker(address, host) as asker:
            while (began := time.perf_counter()) < until:
                status, _ = await asker.ask()
                took.append(time.perf_counter() - began)
                failed += status != 200

    began = time.perf_counter()
    async with asyncio.TaskGroup() as lanes:
        for _ in range(connections):
            lanes.create_task(lane(began + seconds))
    elapsed = time.perf_counter() - began
    took.sort()
    return Rate(len(took) / elapsed, 1000 * took[len(took) // 2], 1000 * took[int(0.99 * len(took))], failed)


async def until_answered_by(asker: Asker, name: str, began: float, seconds: float = 30.0) -> tuple[float, float]:
    """Asks without pause until only `name` answers: (first answer by it, last answer by another), seconds since
    `began`. Over when 50 in a row came from it."""
    first = last = streak = 0.0
    while streak < 50:
        status, body = await asker.ask()
        now = time.perf_counter() - began
        if now > seconds:
            raise Broken(f"{name} does not answer alone after {seconds:.0f} s")
        if status == 200 and body == name.encode():
            first, streak = first or now, streak + 1
        else:
            last, streak = now, 0
    return first, last
