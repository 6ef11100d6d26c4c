"""A thin client of one OpenAI-compatible engine: one request, one bounded answer, and every failure by its kind.

Standard library only. It follows no redirects and uses no proxy: it asks the Service that it was told and nobody else.
What an engine says is clipped and repeated, never interpreted.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import closing
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from finetune_api.exitcodes import ExitCode
from finetune_api.reports import clip
from finetune_trainer.common.errors import RunError
from finetune_trainer.serve.answers import Answer, ChatCompletion, Completion, Models, Tokens
from finetune_trainer.serve.reasons import Reason

CONNECT_S = 5.0
MAX_ANSWER = 32 << 20
_SHOWN = 240
_MAY_PASS = (408, 429, 502, 503, 504)
A = TypeVar("A", bound=Answer)


class EngineError(Exception):
    """In words that complete the sentence `the engine at <url> …`."""


class Away(EngineError):
    """Nobody takes the request: no address, no connection, shutting down. May pass."""


class Silent(EngineError):
    """It took the request and did not answer in time."""


class Broken(EngineError):
    """It failed, hung up in the middle, or answered what is no answer."""


class Refused(EngineError):
    """It does not accept this request (3xx, 4xx); asking again would not help."""


class Engine:
    """`url` is `http://host[:port]`; `name` is the model that requests name."""

    def __init__(self, url: str, name: str) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port or 80
        except ValueError:
            port = 0
        if parts.scheme != "http" or not parts.hostname or not port or parts.path.strip("/") or parts.query:
            raise RunError(
                ExitCode.INVALID_SPEC,
                f"check: {url!r:.200} is no engine's address: expected http://<service>.<namespace>.svc[:port]",
                reason=Reason.INVALID_CONFIG,
            )
        self.url, self.name = url.rstrip("/"), name
        self._host, self._port = parts.hostname, port

    def models(self, timeout: float) -> Models:
        return self._parsed(Models, "GET", "/v1/models", None, timeout)

    def complete(self, timeout: float, prompt: str | list[int], **options: Any) -> Completion:
        body = {"model": self.name, "prompt": prompt, "temperature": 0, **options}
        return self._parsed(Completion, "POST", "/v1/completions", body, timeout)

    def chat(self, timeout: float, messages: list[dict[str, str]], **options: Any) -> ChatCompletion:
        body = {"model": self.name, "messages": messages, "temperature": 0, **options}
        return self._parsed(ChatCompletion, "POST", "/v1/chat/completions", body, timeout)

    def tokenize(self, timeout: float, **what: Any) -> list[int]:
        """vLLM's own endpoint; `prompt` or `messages`."""
        return self._parsed(Tokens, "POST", "/tokenize", {"model": self.name, **what}, timeout).tokens

    def _parsed(self, kind: type[A], method: str, path: str, body: Any, timeout: float) -> A:
        content = self._request(method, path, body, timeout)
        try:
            # Not by pydantic: it refuses the NaN that a broken model writes, and that is worth words of its own.
            answer = kind.model_validate(json.loads(content))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise Broken(f"answered {path} with something else: {place}: {first['msg']}") from None
        except (ValueError, RecursionError):
            raise Broken(f"answered {path} with something that is not JSON: {_said(content)}") from None
        ended = answer.ended
        if ended == "abort":
            raise Away(f"is shutting down: it broke off its answer to {path}")
        if ended == "error":
            raise Broken(f"ended its answer to {path} with an error")
        return answer

    def _request(self, method: str, path: str, body: Any, timeout: float) -> bytes:
        until = time.monotonic() + timeout
        connection = http.client.HTTPConnection(self._host, self._port, timeout=min(CONNECT_S, timeout))
        try:
            try:
                connection.connect()
            except OSError as error:
                raise Away(f"does not take connections: {_reason(error)}") from None
            try:
                return self._exchange(connection, method, path, body, until)
            except TimeoutError:
                raise Silent(f"did not answer {path} within {timeout:.0f} s") from None
            except (OSError, http.client.HTTPException) as error:
                raise Broken(f"hung up before it had answered {path}: {_reason(error)}") from None
        finally:
            connection.close()

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any, until: float
    ) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
        _limit(connection.sock, until)
        connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        sock = connection.sock
        response = connection.getresponse()
        content = bytearray()
        with closing(response):
            while True:
                _limit(sock, until)
                chunk = response.read1(1 << 16)
                if not chunk:
                    break
                content += chunk
                if len(content) > MAX_ANSWER:
                    raise Broken(f"answered {path} with more than {MAX_ANSWER} bytes")
        if response.length:
            raise http.client.IncompleteRead(bytes(content), response.length)
        if 200 <= response.status < 300:
            return bytes(content)
        said = f"answered {path} with HTTP {response.status}: {_said(bytes(content))}"
        if response.status in _MAY_PASS:
            raise Away(said)
        raise (Refused if response.status < 500 else Broken)(said)


def _limit(sock: socket.socket, until: float) -> None:
    """A timeout is per call; answers that drip are limited as a whole."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left)


def _said(content: bytes) -> str:
    """The error's message where the body is OpenAI's, else its beginning."""
    try:
        document = json.loads(content)
        words = document["error"]["message"] if isinstance(document["error"], dict) else document["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        words = content[: 4 * _SHOWN].decode(errors="replace")
    return clip(" ".join(str(words).split()), _SHOWN) or "nothing"


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return clip(text or type(error).__name__, _SHOWN)
