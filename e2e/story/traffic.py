"""A client that never pauses: completions through the Gateway, every second one streamed, each outcome counted.

vLLM answers an aborted request with status 200, and a broken stream ends with an error in its body: a request counts
as good only when it was finished for a reason of its own.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_GOOD = ("stop", "length")
_TIMEOUT = 90.0
_CALM = 0.5


@dataclass
class Client:
    """`start` and `stop`, or a `with` block. `failures` hold (when, what), in words."""

    address: str
    """host:port of the Gateway."""
    host: str
    model: str
    workers: int = 2
    max_tokens: int = 16
    pause: float = 0.1
    calm: bool = False
    """A request of each worker every half second at most: the machine's two cores are needed elsewhere."""
    to_the_end: bool = False
    """Answers have `max_tokens` tokens, whatever the model would say."""
    good: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Client:
        self._over.clear()
        self._threads = [threading.Thread(target=self._loop, args=(n,), daemon=True) for n in range(self.workers)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(_TIMEOUT)

    @property
    def sent(self) -> int:
        return self.good + len(self.failures)

    def words(self) -> str:
        return f"{self.good} answered, {len(self.failures)} failed"

    def ask(self, prompt: str, *, stream: bool = False) -> str:
        """One completion's text. Raises RuntimeError in words."""
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "stream": stream,
            "ignore_eos": self.to_the_end,
        }
        connection = http.client.HTTPConnection(self.address, timeout=_TIMEOUT)
        try:
            connection.request(
                "POST",
                "/v1/completions",
                json.dumps(body),
                {"Host": self.host, "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            raw = response.read().decode(errors="replace")
            if response.status != 200:
                raise RuntimeError(f"status {response.status}: {raw[:200]}")
            return _streamed(raw) if stream else _whole(json.loads(raw))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def _loop(self, number: int) -> None:
        turn = number
        while not self._over.is_set():
            turn += 1
            began = time.monotonic()
            try:
                self.ask(f"Question {turn}: I was charged twice", stream=turn % 2 == 0)
            except RuntimeError as error:
                with self._lock:
                    self.failures.append((time.time(), str(error)))
                    self.kinds[str(error)[:60]] += 1
            else:
                with self._lock:
                    self.good += 1
                    self.seconds.append(time.monotonic() - began)
            self._over.wait(max(self.pause, _CALM) if self.calm else self.pause)


def _whole(answer: dict[str, Any]) -> str:
    choice = answer["choices"][0]
    if choice["finish_reason"] not in _GOOD:
        raise RuntimeError(f"finished for {choice['finish_reason']}")
    return str(choice["text"])


def _streamed(raw: str) -> str:
    lines = [line[len("data: ") :] for line in raw.splitlines() if line.startswith("data: ")]
    if not lines or lines[-1] != "[DONE]":
        raise RuntimeError("the stream broke off")
    text, reason = "", None
    for line in lines[:-1]:
        part = json.loads(line)
        if "error" in part:
            raise RuntimeError(f"an error in the stream: {str(part['error'])[:200]}")
        for choice in part.get("choices", []):
            text += choice.get("text") or ""
            reason = choice.get("finish_reason") or reason
    if reason not in _GOOD:
        raise RuntimeError(f"the stream finished for {reason}")
    return text
