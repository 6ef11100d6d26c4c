"""The pod's endpoints: `/healthz` and `/metrics` are open; `/progress` and `POST /checkpoint` need the run's token.

Answers are small, requests are bounded, and a client that dawdles is cut off: nothing here may disturb training.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError

from finetune_api.reports import CheckpointRequest
from finetune_trainer.launcher.board import Board
from finetune_trainer.launcher.endpoints import MAX_BODY, Answering, Endpoints
from finetune_trainer.launcher.prometheus import exposition

SaveHook = Callable[[CheckpointRequest], None]


class Server(Endpoints):
    def __init__(self, address: tuple[str, int], board: Board, token: str | None, on_save: SaveHook) -> None:
        self.board, self.on_save = board, on_save
        super().__init__(address, Handler, token)


class Handler(Answering):
    server: Server

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

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self._json(411, {"error": "send a Content-Length"}, close=True)
            return None
        if int(length) > MAX_BODY:
            self._json(413, {"error": f"the body is larger than {MAX_BODY} bytes"}, close=True)
            return None
        return self.rfile.read(int(length))
