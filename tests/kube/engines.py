"""An engine as its `/metrics` page tells of it: counters that a test turns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from finetune_operator.core.serving.types import Scrape, Target

REAL_PAGE = (Path(__file__).parent / "pages" / "vllm-0.32.0.txt").read_bytes()
BOUNDS = (0.1, 0.5, 1.0, 5.0, math.inf)
_FAMILIES = {
    "vllm:e2e_request_latency_seconds": "e2e",
    "vllm:time_to_first_token_seconds": "ttft",
    "vllm:inter_token_latency_seconds": "itl",
    "vllm:request_queue_time_seconds": "queue",
}


@dataclass
class Engine:
    """`serve` and the like are what happens inside; `page` is what it says of it."""

    started: float = 1000.0
    finished: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("stop", "length", "abort", "error"), 0))
    http: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    running: int = 0
    waiting: int = 0
    seen: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _FAMILIES.values()})

    def serve(self, *seconds: float, reason: str = "stop", tokens: int = 10) -> None:
        """Requests that ended, each after so long."""
        for took in seconds:
            self.finished[reason] += 1
            self.tokens += tokens
            self.http["2xx"] = self.http.get("2xx", 0) + 1
            self.seen["e2e"].append(took)
            self.seen["ttft"].append(took / 2 if tokens > 1 else took)
            self.seen["queue"].append(0.0)
            self.seen["itl"].extend([took / tokens] * (tokens - 1))

    def synthetic(self, took: float) -> None:
        self.serve(took, reason="length", tokens=1)

    def refuse(self, count: int = 1, *, in_engine: bool = True) -> None:
        self.http["5xx"] = self.http.get("5xx", 0) + count
        self.finished["error"] += count if in_engine else 0

    def restart(self) -> None:
        self.__init__(started=self.started + 1000.0)  # type: ignore[misc]

    def page(self) -> bytes:
        lines = [f"process_start_time_seconds {self.started}"]
        who = 'engine="0",model_name="bot"'
        lines += [f'vllm:request_success_total{{{who},finished_reason="{k}"}} {v}.0' for k, v in self.finished.items()]
        lines += [
            f'http_requests_total{{handler="/v1/completions",method="POST",status="{k}"}} {v}.0'
            for k, v in self.http.items()
        ]
        lines += [f"vllm:generation_tokens_total{{{who}}} {self.tokens}.0"]
        lines += [f"vllm:num_requests_running{{{who}}} {self.running}.0"]
        lines += [f"vllm:num_requests_waiting{{{who}}} {self.waiting}.0"]
        for family, name in _FAMILIES.items():
            lines += _histogram(family, who, self.seen[name])
        return ("\n".join(lines) + "\n").encode()


def _histogram(family: str, who: str, seen: list[float]) -> list[str]:
    edges: Mapping[float, str] = {b: "+Inf" if b == math.inf else str(b) for b in BOUNDS}
    lines = [f"# TYPE {family} histogram"]
    lines += [f'{family}_bucket{{{who},le="{text}"}} {sum(s <= b for s in seen)}.0' for b, text in edges.items()]
    return [*lines, f"{family}_count{{{who}}} {len(seen)}.0", f"{family}_sum{{{who}}} {sum(seen)}"]


def target(uid: str = "u1", revision: str = "aaa", *, ip: str = "10.0.0.1") -> Target:
    return Target(pod=f"bot-{revision}-{uid}", uid=uid, ip=ip, revision=revision, served_name="bot")


def scrape(*targets: Target, window: str = "w1", step: str = "s1", **more: float | bool) -> Scrape:
    settings = {"interval": 15.0, **more}
    return Scrape(window=window, step=step, targets=targets, **settings)  # type: ignore[arg-type]
