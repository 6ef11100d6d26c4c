"""The endpoints of a custom trainer's pod, the same as the built-in one's: `/healthz` and `/metrics` are open,
`/progress` and `POST /checkpoint` need the run's token."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from finetune_trainer.launcher.endpoints import MAX_BODY, Answering, Endpoints

_GAUGES = ("step", "totalSteps", "epoch", "loss", "evalLoss", "stepSeconds", "etaSeconds")
_PREFIX = "finetune_trainer"


class Server(Endpoints):
    def __init__(
        self, port: int, progress: Callable[[], dict[str, Any]], request: Callable[[str, bool], None], token: str | None
    ) -> None:
        """`request`: called with (reason, stop)."""
        self.progress, self.request = progress, request
        super().__init__(("", port), Handler, token)


class Handler(Answering):
    server: Server

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
