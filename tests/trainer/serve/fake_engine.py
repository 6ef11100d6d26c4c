"""An OpenAI-compatible server with vLLM 0.32's answer shapes, on loopback, that fails in every way an engine can.

Its tokens are the bytes of a text, its log-probabilities a function of the token, so that a reference can be written
down without a model.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 1, "total_tokens": 2, "completion_tokens": 1, "prompt_tokens_details": None}


def logprob(token: int) -> float:
    return -1.0 - token / 256


def render(messages: list[dict[str, str]]) -> str:
    return "".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>"


@dataclass
class FakeEngine:
    """`answer` gets the rendered prompt. `faults` are used up one per request; each gets the handler and answers."""

    name: str = "support"
    max_model_len: int = 512
    answer: Callable[[str], str] = lambda prompt: f"re: {prompt}"
    shift: float = 0.0
    """Of every log-probability."""
    tokenizer: Callable[[str], list[int]] = lambda text: list(text.encode())
    faults: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    always: Callable[[BaseHTTPRequestHandler], None] | None = None
    finish: str = "stop"
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    most_at_once: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reply(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if path == "/v1/models":
            card = {"id": self.name, "object": "model", "owned_by": "vllm", "max_model_len": self.max_model_len}
            return 200, {"object": "list", "data": [card]}
        if body.get("model") != self.name:
            return refusal(404, f"The model `{body.get('model')}` does not exist. Valid aliases: {self.name}.")
        if path == "/tokenize":
            text = render(body["messages"]) if "messages" in body else body["prompt"]
            tokens = self.tokenizer(text)
            return 200, {"count": len(tokens), "max_model_len": 512, "tokens": tokens, "token_strs": None}
        if body["temperature"] != 0:
            return refusal(400, "these tests are greedy")
        prompt = render(body["messages"]) if "messages" in body else body["prompt"]
        ids = prompt if isinstance(prompt, list) else list(prompt.encode())
        if len(ids) + body["max_tokens"] > self.max_model_len:
            return refusal(400, f"This model's maximum context length is {self.max_model_len} tokens.")
        text = self.answer(bytes(ids).decode(errors="replace"))
        if path == "/v1/chat/completions":
            message = {"role": "assistant", "content": text, "reasoning": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish}
            return 200, {"object": "chat.completion", "model": self.name, "choices": [choice], "usage": USAGE}
        written = list(text.encode())[: body["max_tokens"]]
        values = [self.lp(token) for token in written]
        choice = {
            "index": 0,
            "text": bytes(written).decode(errors="replace"),
            "logprobs": {"text_offset": [], "token_logprobs": values, "tokens": [], "top_logprobs": []}
            if "logprobs" in body
            else None,
            "finish_reason": self.finish,
            "stop_reason": None,
            "token_ids": written if body.get("return_token_ids") else None,
            "prompt_logprobs": [None, *({str(t): self.entry(t)} for t in ids[1:])]
            if "prompt_logprobs" in body
            else None,
            "prompt_token_ids": ids if body.get("return_token_ids") else None,
        }
        return 200, {"object": "text_completion", "model": self.name, "choices": [choice], "usage": USAGE}

    def lp(self, token: int) -> float:
        return logprob(token) + self.shift

    def entry(self, token: int) -> dict[str, Any]:
        return {"logprob": self.lp(token), "rank": 1, "decoded_token": chr(token)}


def refusal(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}}


def send(handler: BaseHTTPRequestHandler, status: int, content: bytes, **headers: str) -> None:
    handler.send_response(status)
    for key, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
        handler.send_header(key.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def says(status: int, content: bytes, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: send(handler, status, content, **headers)


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    """In the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"object":')
    handler.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    """Connections beyond it are tried again after a second."""


@contextmanager
def serving(engine: FakeEngine) -> Iterator[FakeEngine]:
    lock = threading.Lock()
    now = [0]

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            with lock:
                now[0] += 1
                engine.most_at_once = max(engine.most_at_once, now[0])
                engine.asked.append((self.path, body))
                fault = engine.faults.pop(0) if engine.faults else engine.always
            try:
                status, document = (0, {}) if fault else engine.reply(self.path, body)
            finally:
                # Once it is sent, the client may ask again before this thread goes on.
                with lock:
                    now[0] -= 1
            try:
                if fault is not None:
                    fault(self)
                else:
                    send(self, status, json.dumps(document).encode())
            except OSError:
                pass  # the client did not wait

        do_GET = do_POST = _answer

        def log_message(self, *args: object) -> None:
            return

    server = _Server(("127.0.0.1", 0), Handler)
    engine.port = int(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
