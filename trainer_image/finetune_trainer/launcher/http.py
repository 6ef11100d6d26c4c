"""The pod's endpoints: `/healthz` and `/metrics` are open; `/progress` and `POST /checkpoint` need the run's token.

Answers are small, requests are bounded, and a client that dawdles is cut off: nothing here may disturb training.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydantic import ValidationError

from finetune_api.reports import CheckpointRequest
from finetune_api.runconfig import TOKEN_HEADER
from finetune_trainer.launcher.board import Board
from finetune_trainer.launcher.prometheus import exposition

MAX_BODY = 64 << 10
SaveHook = Callable[[CheckpointRequest], None]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], board: Board, token: str | None, on_save: SaveHook) -> None:
        self.board, self.token, self.on_save = board, token, on_save
        super().__init__(address, Handler)

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
        board = self.server.board
        if self.path == "/healthz":
            self._json(200, {"status": "ok", "stage": board.stage, "attempt": board.config.attempt})
        elif self.path == "/metrics":
            self._send(200, exposition(board).encode(), "text/plain; version=0.0.4; charset=utf-8")
        elif self.path == "/progress":
            if self._authorized():
                self._json(200, board.progress().to_wire())
        else:
            self._json(404, {"error": "no such path; there are /healthz, /metrics, /progress and POST /checkpoint"})

    def do_POST(self) -> None:
        if self.path != "/checkpoint":
            self._json(404, {"error": "no such path; POST /checkpoint is the only one"}, close=True)
            return
        if not self._authorized():
            return
        body = self._body()
        if body is None:
            return
        try:
            request = CheckpointRequest.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            self._json(400, {"error": f'{where}: {first["msg"]}; send {{"reason": "…", "stop": false}}'})
            return
        if request.stop:
            self.server.board.request_stop(request.reason)
        else:
            self.server.on_save(request)
        self._json(202, {"accepted": True, "step": self.server.board.progress().step})

    def _authorized(self) -> bool:
        token, sent = self.server.token, self.headers.get(TOKEN_HEADER, "")
        if token is not None and hmac.compare_digest(sent.encode(), token.encode()):
            return True
        self._json(401, {"error": f"the header {TOKEN_HEADER} does not hold this run's token"}, close=True)
        return False

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self._json(411, {"error": "send a Content-Length"}, close=True)
            return None
        if int(length) > MAX_BODY:
            self._json(413, {"error": f"the body is larger than {MAX_BODY} bytes"}, close=True)
            return None
        return self.rfile.read(int(length))

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
