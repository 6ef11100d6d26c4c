"""The cheapest HTTP server there is, as an engine's stand-in: answers each request with its own name.

It runs in a pod by its source alone (`python -c`), so it needs the standard library only. The Gateway's cost is what
is left when the backend's is as small as this.
"""

from __future__ import annotations

import asyncio
import os


class Echo(asyncio.Protocol):
    """Keep-alive, a body of any length is skipped by its Content-Length."""

    answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            _, _, rest = head.partition(b"content-length:")
            length = int(rest.split(b"\r\n", 1)[0] or 0)
            if len(self._held) < end + 4 + length:
                return
            self._held = self._held[end + 4 + length :]
            self._transport.write(self.answer)


async def serve(name: str, port: int, host: str = "0.0.0.0") -> asyncio.Server:
    body = name.encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n\r\n"
    protocol = type("Named", (Echo,), {"answer": head.encode() + body})
    return await asyncio.get_running_loop().create_server(protocol, host, port)


async def main() -> None:
    server = await serve(os.environ["NAME"], 8000)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
