"""The endpoints of a custom trainer's pod, the same as the built-in one's: `/healthz` and `/metrics` are open,
`/progress` and `POST /checkpoint` need the run's token. And how the launchers of one gang reach each other's."""

from __future__ import annotations

import hmac
import http.client
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from finetune_api.pod import PORT, TOKEN_HEADER

MAX_BODY = 64 << 10
PEER_SECONDS = 2.0
_GAUGES = ("step", "totalSteps", "epoch", "loss", "evalLoss", "stepSeconds", "etaSeconds")
_PREFIX = "finetune_trainer"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self, port: int, progress: Callable[[], dict[str, Any]], request: Callable[[str, bool], None], token: str | None
    ) -> None:
        """`request`: called with (reason, stop)."""
        self.progress, self.request, self.token = progress, request, token
        super().__init__(("", port), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.2}, name="http", daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 5
    protocol_version = "HTTP/1.1"
    server_version = "finetune"
    sys_version = ""

    def do_GET(self) -> None:
        progress = self.server.progress()
        if self.path == "/healthz":
            self._json(200, {"status": "ok", "stage": progress["stage"], "attempt": progress["attempt"]})
        elif self.path == "/metrics":
            self._send(200, exposition(progress).encode(), "text/plain; version=0.0.4; charset=utf-8")
        elif self.path != "/progress":
            self._json(404, {"error": "no such path; there are /healthz, /metrics, /progress and POST /checkpoint"})
        elif self._authorized():
            self._json(200, progress)

    def do_POST(self) -> None:
        if self.path != "/checkpoint":
            self._json(404, {"error": "no such path; POST /checkpoint is the only one"}, close=True)
            return
        if not self._authorized():
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self._json(413, {"error": f"send a Content-Length of at most {MAX_BODY} bytes"}, close=True)
            return
        try:
            reason, stop = parse_request(self.rfile.read(int(length)))
        except ValueError as error:
            self._json(400, {"error": f'{error}; send {{"reason": "…", "stop": false}}'})
            return
        self.server.request(reason, stop)
        self._json(202, {"accepted": True, "step": self.server.progress().get("step", 0)})

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


def parse_request(body: bytes) -> tuple[str, bool]:
    """(reason, stop) of a `POST /checkpoint`. Raises ValueError in words."""
    try:
        document = json.loads(body)
    except ValueError:
        raise ValueError("the body is not JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("reason"), str):
        raise ValueError("reason: a text is expected")
    if not isinstance(document.get("stop", False), bool):
        raise ValueError("stop: true or false is expected")
    return document["reason"][:63], document.get("stop", False)


def exposition(progress: Mapping[str, Any]) -> str:
    """Prometheus' text format; names as the built-in trainer's."""
    lines = []
    for name in _GAUGES:
        value = progress.get(name)
        if isinstance(value, (int, float)):
            metric = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
            lines += [f"# TYPE {_PREFIX}_{metric} gauge", f"{_PREFIX}_{metric} {value}"]
    stopping = int(progress.get("stopRequestedAt") is not None)
    lines += [f"# TYPE {_PREFIX}_stop_requested gauge", f"{_PREFIX}_stop_requested {stopping}"]
    lines += [f"# TYPE {_PREFIX}_stage gauge", f'{_PREFIX}_stage{{stage="{progress["stage"]}"}} 1']
    return "\n".join(lines) + "\n"


def pass_on(peers: Sequence[str], token: str | None, reason: str, *, stop: bool) -> None:
    """Tells other pods of this gang, in the background and as well as may be: the ranks' agreement is what counts."""
    body = json.dumps({"reason": reason, "stop": stop}).encode()

    def send(peer: str) -> None:
        host, separator, port = peer.partition(":")
        connection = http.client.HTTPConnection(host, int(port) if separator else PORT, timeout=PEER_SECONDS)
        try:
            connection.request("POST", "/checkpoint", body=body, headers={TOKEN_HEADER: token or ""})
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()

    for peer in peers:
        threading.Thread(target=send, args=(peer,), name="peer", daemon=True).start()
