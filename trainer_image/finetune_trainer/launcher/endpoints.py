"""What the endpoints of every trainer's pod have in common, and how one launcher asks another's.

Standard library only: it travels to custom trainers' images.
"""

from __future__ import annotations

import hmac
import http.client
import json
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from finetune_api.pod import PORT, TOKEN_HEADER

MAX_BODY = 64 << 10
TIMEOUT_SECONDS = 2.0
"""Of a request to another pod."""


class Endpoints(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[Answering], token: str | None) -> None:
        self.token = token
        super().__init__(address, handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.2}, name="http", daemon=True).start()


class Answering(BaseHTTPRequestHandler):
    server: Any
    timeout = 5
    protocol_version = "HTTP/1.1"
    server_version = "finetune"
    sys_version = ""

    def _authorized(self) -> bool:
        token, sent = self.server.token, self.headers.get(TOKEN_HEADER, "")
        if token is not None and hmac.compare_digest(sent.encode(), token.encode()):
            return True
        self._json(401, {"error": f"the header {TOKEN_HEADER} does not hold this run's token"}, close=True)
        return False

    def _json(self, status: int, document: object, *, close: bool = False) -> None:
        self._send(status, json.dumps(document).encode(), "application/json", close=close)

    def _send(self, status: int, content: bytes, kind: str, *, close: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        if close:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Polls every few seconds would drown the training log."""


def address(peer: str) -> tuple[str, int]:
    host, separator, port = peer.partition(":")
    return host, int(port) if separator else PORT


def ask(peer: str, method: str, path: str, token: str | None, body: bytes | None = None) -> int | None:
    """The status, or None when the peer does not answer."""
    connection = http.client.HTTPConnection(*address(peer), timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path, body=body, headers={TOKEN_HEADER: token} if token else {})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def tell(peers: Iterable[str], token: str | None, request: object) -> None:
    """`POST /checkpoint` to each, in the background, best effort: the ranks' own agreement is what counts."""
    body = json.dumps(request).encode()
    for peer in peers:
        threading.Thread(target=ask, args=(peer, "POST", "/checkpoint", token, body), name="peer", daemon=True).start()
