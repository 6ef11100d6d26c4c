"""Engines without HTTP: what a vLLM does with requests, and what it counts of them, in simulated time.

An engine serves any number of requests at once; each takes a time of its own. What a bad revision does (crash, hang,
answer slowly or with errors) is a `Behaviour` of its model. Nothing needs events: an engine is asked at some instant,
and catches up with everything that ended until then.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fakeapi.controllers import Process, Program

_E2E = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0)
_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)
_ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)
_BOUNDS = {
    "vllm:e2e_request_latency_seconds": _E2E,
    "vllm:time_to_first_token_seconds": _TTFT,
    "vllm:inter_token_latency_seconds": _ITL,
    "vllm:request_queue_time_seconds": _E2E,
}
TOKENS = 8
FIRST_TOKEN = 0.2
"""Share of a request's time until its first token."""
_NEVER = float("inf")


@dataclass(frozen=True)
class Behaviour:
    """Of every engine that serves a model."""

    latency: float = 0.4
    slow: float = 1.0
    crash_after: int | None = None
    """Dies with the request of this number, counted since it started."""
    hang_after: int | None = None
    dies_at_start: bool = False
    error_share: float = 0.0
    load_seconds: float = 3.0
    never_ready: bool = False
    fetch_exit: int = 0
    image_missing: bool = False


class Buckets:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def lines(self, name: str, labels: str) -> list[str]:
        out, total = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            out.append(f'{name}_bucket{{{labels},le="{bound}"}} {total}.0')
        return [*out, f"{name}_count{{{labels}}} {total}.0", f"{name}_sum{{{labels}}} {self.sum!r}"]


Done = Callable[[str], None]
"""Told how a request ended: ok, error, aborted or died."""


@dataclass(order=True)
class _Running:
    ends: float
    number: int
    began: float = field(compare=False)
    tokens: int = field(compare=False)
    fails: bool = field(compare=False)
    done: Done = field(compare=False)


class Engine:
    """One container of one engine pod. `up` while its process runs."""

    def __init__(self, behaviour: Behaviour, served_name: str, rng: random.Random) -> None:
        self.behaviour, self.served_name = behaviour, served_name
        self._rng = rng
        self.up = False
        self.stopping = False
        self.started = 0.0
        self.crashed_at: float | None = None
        self._running: list[_Running] = []
        self._arrived = 0
        self._finished: Counter[str] = Counter()
        self._refused = 0
        self._tokens = 0
        self._histograms: dict[str, Buckets] = {}

    def start(self, now: float) -> None:
        self.up, self.stopping, self.started = True, False, now
        self.crashed_at = now + 0.5 if self.behaviour.dies_at_start else None
        self._arrived, self._refused, self._tokens = 0, 0, 0
        self._finished = Counter()
        self._histograms = {name: Buckets(bounds) for name, bounds in _BOUNDS.items()}

    def end(self, now: float) -> None:
        """The process is gone, and with it whatever it was working on."""
        self.catch_up(now)
        self.up = False
        self._drop("died")

    @property
    def hangs(self) -> bool:
        after = self.behaviour.hang_after
        return after is not None and self._arrived >= after

    def busy_until(self, now: float) -> float:
        """When the last of the running requests will have ended."""
        self.catch_up(now)
        return max((r.ends for r in self._running), default=now)

    def stop(self, now: float) -> None:
        """SIGTERM: what runs may end, what comes from now on is aborted."""
        self.catch_up(now)
        self.stopping = True

    def abort(self) -> None:
        """The patience of a stopping engine is over."""
        self._drop("aborted")

    def arrive(self, at: float, done: Done, *, tokens: int = TOKENS) -> None:
        self.catch_up(at)
        if not self.up or self.crashed_at is not None:
            done("died")
            return
        if self.stopping:
            done("aborted")
            return
        self._arrived += 1
        what = self.behaviour
        seconds = what.latency * what.slow * self._rng.lognormvariate(0.0, 0.25) * (0.3 + 0.7 * tokens / TOKENS)
        if self.hangs:
            seconds = _NEVER
            self._running = [_Running(_NEVER, r.number, r.began, r.tokens, r.fails, r.done) for r in self._running]
        fails = self._rng.random() < what.error_share
        heapq.heappush(self._running, _Running(at + seconds, self._arrived, at, tokens, fails, done))
        if what.crash_after is not None and self._arrived >= what.crash_after:
            self.crashed_at = at
            self._drop("died")

    def catch_up(self, now: float) -> None:
        while self._running and self._running[0].ends <= now:
            self._finish(heapq.heappop(self._running))

    def _finish(self, request: _Running) -> None:
        if request.fails:
            self._finished["error"] += 1
            self._refused += 1
            request.done("error")
            return
        self._finished["length"] += 1
        self._tokens += request.tokens
        seconds = request.ends - request.began
        first = seconds * FIRST_TOKEN
        self._histograms["vllm:e2e_request_latency_seconds"].observe(seconds)
        self._histograms["vllm:time_to_first_token_seconds"].observe(first)
        self._histograms["vllm:request_queue_time_seconds"].observe(0.0)
        if request.tokens > 1:
            pause = (seconds - first) / (request.tokens - 1)
            self._histograms["vllm:inter_token_latency_seconds"].observe(pause, request.tokens - 1)
        request.done("ok")

    def _drop(self, how: str) -> None:
        dropped, self._running = self._running, []
        for request in dropped:
            request.done(how)

    def exposition(self, now: float) -> bytes:
        """`/metrics`, as far as anybody reads it."""
        self.catch_up(now)
        labels = f'engine="0",model_name="{self.served_name}"'
        out = [
            f"process_start_time_seconds {self.started}",
            f"vllm:num_requests_running{{{labels}}} {float(len(self._running))}",
            f"vllm:num_requests_waiting{{{labels}}} 0.0",
            f"vllm:generation_tokens_total{{{labels}}} {float(self._tokens)}",
        ]
        for reason in ("stop", "length", "abort", "error", "repetition"):
            counted = float(self._finished[reason])
            out.append(f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {counted}')
        http = 'http_requests_total{handler="/v1/completions",method="POST",status='
        if served := self._finished["length"]:
            out.append(f'{http}"2xx"}} {float(served)}')
        if self._refused:
            out.append(f'{http}"5xx"}} {float(self._refused)}')
        for name, buckets in self._histograms.items():
            out += buckets.lines(name, labels)
        return ("\n".join(out) + "\n").encode()


@dataclass(frozen=True)
class EnginePod(Program):
    """The kubelet's side of an engine."""

    seconds: float | None = None
    term_exit_code: int = 0
    engine: Engine | None = None
    shutdown_timeout: float = 0.0
    catch_up: Callable[[], None] = lambda: None
    """Lets clients send what they would have sent until now."""

    @property
    def _engine(self) -> Engine:
        assert self.engine is not None
        return self.engine

    def on_running(self, process: Process, now: float) -> None:
        self._engine.start(now)

    def ready_at(self, process: Process) -> float | None:
        engine = self._engine
        if process.running is None or engine.behaviour.never_ready or engine.crashed_at is not None:
            return None
        return process.running + engine.behaviour.load_seconds

    def done_at(self, process: Process) -> float | None:
        return self._engine.crashed_at

    def on_term(self, process: Process, now: float) -> float:
        self.catch_up()
        engine = self._engine
        engine.stop(now)
        return min(self.shutdown_timeout, engine.busy_until(now) - now) + 0.1

    def ending(self, process: Process, how: str, now: float) -> tuple[int, str]:
        self.catch_up()
        if how == "term":
            self._engine.catch_up(now)
            self._engine.abort()
            return 0, ""
        return 1, "the engine died"

    def on_end(self, process: Process, now: float) -> None:
        self.catch_up()
        self._engine.end(now)
