"""Which records make up which batch: a pure function of (seed, epoch, batch), the same for every world size.

One permutation per epoch, put in order where there is a curriculum; global batch g is the slice [g·B, (g+1)·B) of it;
rank r of w takes the r-th part of the slice. The permutation sorts a hash of (seed, epoch, index) instead of asking
numpy's generators, whose streams may change between versions and would then silently change a resumed run's data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finetune_trainer.data.curriculum import Arrangement
from finetune_trainer.engine.plan import BatchPlan

Indices = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64's finalizer (Steele, Lea, Flood 2014); wraps around modulo 2**64."""
    with np.errstate(over="ignore"):
        z = values + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def key(*parts: int) -> int:
    """64 well-mixed bits from a few integers."""
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        state = mix(state ^ np.uint64(part & 0xFFFFFFFFFFFFFFFF))
    return int(state[0])


def permutation(rows: int, seed: int, epoch: int) -> Indices:
    hashes = mix(np.arange(rows, dtype=np.uint64) ^ np.uint64(key(seed, epoch)))
    return np.argsort(hashes, kind="stable").astype(np.int64)


@dataclass(frozen=True)
class MicroBatch:
    indices: Indices
    position: int
    """Of its first record within the global batch; with (seed, epoch, batch) it seeds the dropout."""


EMPTY = MicroBatch(np.empty(0, dtype=np.int64), 0)


class Order:
    def __init__(self, plan: BatchPlan, seed: int, arrangement: Arrangement | None = None) -> None:
        self.plan, self.seed, self._arrangement = plan, seed, arrangement
        self._epoch = -1
        self._permutation: Indices = np.empty(0, dtype=np.int64)

    def batch(self, epoch: int, batch: int) -> Indices:
        """All records of a global batch; shorter than the plan's at the end of an epoch."""
        if epoch != self._epoch:
            shuffled = permutation(self.plan.rows, self.seed, epoch)
            self._epoch = epoch
            self._permutation = self._arrangement.arrange(shuffled, epoch) if self._arrangement else shuffled
        size = self.plan.global_batch
        return self._permutation[batch * size : (batch + 1) * size]

    def share(self, epoch: int, batch: int, rank: int) -> list[MicroBatch]:
        """A rank's micro-batches, possibly none in a short last batch. Positions do not move when a batch is
        short, so a rank may get more than another; the loss is normalised over the whole batch, not per rank."""
        indices = self.batch(epoch, batch)
        start, micro = rank * self.plan.per_rank, self.plan.micro_batch
        mine = indices[start : start + self.plan.per_rank]
        return [MicroBatch(mine[i : i + micro], start + i) for i in range(0, len(mine), micro)]
