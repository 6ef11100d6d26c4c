"""Where the time of our steps goes: a strategy that looks at the clock around another one's work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch

from finetune_trainer.checkpoint.held import Held
from finetune_trainer.engine.strategy.base import Strategy


class Clocked:
    """Adds up seconds by part. On a CPU only: a GPU's work is not over when the call returns."""

    def __init__(self, inner: Strategy) -> None:
        self._inner = inner
        self.name, self.model, self.lockstep, self.spread = inner.name, inner.model, inner.lockstep, inner.spread
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        began = perf_counter()
        yield
        self.seconds[name] += perf_counter() - began

    @contextmanager
    def precision(self) -> Iterator[None]:
        with self._part("forward"), self._inner.precision():
            yield

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        with self._part("backward"):
            self._inner.backward(loss, last=last)

    def norm(self) -> torch.Tensor:
        with self._part("gradient sum and norm"):
            return self._inner.norm()

    def update(self, rate: float, max_norm: float, norm: torch.Tensor) -> None:
        with self._part("clip and optimizer"):
            self._inner.update(rate, max_norm, norm)

    def skip(self) -> None:
        self._inner.skip()

    def held(self) -> Mapping[str, Held]:
        return self._inner.held()

    def prepare_restore(self) -> None:
        self._inner.prepare_restore()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
