"""Faults for tests, inside a real vLLM: FAULT names one or several, separated by commas.

    crash-after:20   the engine process dies by SIGKILL in the middle of the request after the 20th completed one
    hang-after:20    from then on the engine accepts requests and completes none; /health goes on answering
    slow:1.3         each engine step takes 1.3 times as long, so that vLLM's own histograms show it
    pace:20          each engine step takes at least 20 ms: a tiny model with the rhythm of a large one, whose latencies
                     lie in vLLM's buckets and do not depend on what else the machine is doing (slow multiplies it)

A crash or hang comes at the third step after the last completed request: the victim has then answered its first tokens
and is shown as running. Without FAULT nothing is patched.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

STEPS_INTO_THE_VICTIM = 3
Step = Callable[[Any], tuple[dict[int, Any], bool]]


@dataclass
class Faults:
    """What FAULT asks for; 0 is never."""

    crash_after: int = 0
    hang_after: int = 0
    slow: float = 1.0
    pace: float = 0.0

    @property
    def break_after(self) -> int:
        return self.crash_after or self.hang_after


def parse(text: str) -> Faults:
    faults = Faults()
    for part in filter(None, (p.strip() for p in text.split(","))):
        kind, _, value = part.partition(":")
        try:
            if kind == "crash-after":
                faults.crash_after = int(value)
            elif kind == "hang-after":
                faults.hang_after = int(value)
            elif kind == "slow":
                faults.slow = float(value)
            elif kind == "pace":
                faults.pace = float(value) / 1000
            else:
                raise ValueError(kind)
        except ValueError:
            raise SystemExit(f"FAULT={text!r}: expected crash-after:N, hang-after:N, slow:X or pace:MS") from None
    return faults


def die() -> None:
    """As when the kernel kills it: no handler, no last words."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """For ever; signals are still handled."""
    threading.Event().wait()


class FaultyStep:
    """One engine's step with its faults. Clock, sleep and the two ends are given, for tests."""

    def __init__(
        self,
        step: Step,
        faults: Faults,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        crash: Callable[[], None] = die,
        freeze: Callable[[], None] = hang,
    ) -> None:
        self.step, self.faults = step, faults
        self.clock, self.sleep, self.crash, self.freeze = clock, sleep, crash, freeze
        self.completed = 0
        self.steps_since = 0

    def __call__(self, engine: Any) -> tuple[dict[int, Any], bool]:
        if self.faults.break_after and self.completed >= self.faults.break_after:
            self.steps_since += 1
            if self.steps_since >= STEPS_INTO_THE_VICTIM:
                (self.crash if self.faults.crash_after else self.freeze)()
        began = self.clock()
        outputs, executed = self.step(engine)
        if executed:
            took = self.clock() - began
            self.sleep(max(took, self.faults.pace) * self.faults.slow - took)
        for batch in (outputs or {}).values():
            self.completed += sum(output.finish_reason is not None for output in batch.outputs)
        return outputs, executed


def register() -> None:
    """The entry point that vLLM calls in each of its processes."""
    text = os.environ.get("FAULT", "")
    if not text:
        return
    from vllm.v1.engine.core import EngineCore

    faulty = EngineCore.step if hasattr(EngineCore.step, "faulty") else wrapped(EngineCore.step, parse(text))
    EngineCore.step = faulty


def wrapped(step: Step, faults: Faults) -> Step:
    """A function, which a class binds to its instances as it does with its own."""
    call = FaultyStep(step, faults)

    def faulty(self: Any) -> tuple[dict[int, Any], bool]:
        return call(self)

    faulty.faulty = True  # type: ignore[attr-defined]
    return faulty
