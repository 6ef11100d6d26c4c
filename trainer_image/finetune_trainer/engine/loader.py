"""A rank's batches, put together ahead of the step that needs them.

There is no loader state: what step n trains on is a function of (seed, epoch, batch), so workers can be many or none,
begin anywhere, and die with the process; a resumed run sees the same batches bit for bit. Threads, not processes:
records lie in memory-mapped files, and copying them gives way to the training thread.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from finetune_api.exitcodes import ExitCode
from finetune_trainer.common.clock import monotonic
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine.batch import Batch, Examples, target_tokens, without_targets
from finetune_trainer.engine.order import EMPTY, Indices, MicroBatch, Order
from finetune_trainer.objectives.base import Objective

WORKERS = 2
AHEAD = 2
"""Global batches that wait, per worker."""


@dataclass(frozen=True)
class Micro:
    position: int
    """Within the global batch: seeds the dropout."""
    batch: Batch


@dataclass(frozen=True)
class Load:
    """One rank's part of one optimizer step."""

    epoch: int
    batch: int
    targets: int
    """Of the whole global batch."""
    weight: int
    """What its sums are divided by, as the objective counts."""
    tokens: int
    micros: list[Micro]


class Loader:
    """`load(step)` gives what comes after `step` finished ones; `waited` says how long the last one took to come."""

    def __init__(
        self,
        objective: Objective,
        examples: Examples,
        order: Order,
        rank: int,
        pad_id: int,
        *,
        lockstep: bool = False,
        workers: int = WORKERS,
        pin: bool = False,
    ) -> None:
        """`pin`: batches lie where a GPU can fetch them by itself."""
        self._objective, self._examples, self._order = objective, examples, order
        self._rank, self._pad = rank, pad_id
        self._lockstep, self._ahead, self._pin = lockstep, workers * AHEAD, pin
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader") if workers else None
        self._coming: OrderedDict[int, Future[Load]] = OrderedDict()
        self._lock = Lock()
        """The order remembers its last permutation."""
        self.waited = 0.0

    def load(self, step: int) -> Load:
        """Raises RunError (66) that names the record which cannot be read."""
        began = monotonic()
        if self._pool is None:
            load = self._make(step)
        else:
            if step not in self._coming:
                self._forget()
            for number in range(step, min(step + self._ahead + 1, self._order.plan.total_steps)):
                if number not in self._coming:
                    self._coming[number] = self._pool.submit(self._make, number)
            future = self._coming.pop(step, None)
            load = future.result() if future else self._make(step)
        self.waited = monotonic() - began
        return load

    def close(self) -> None:
        """Waits for what a worker has in hand; nothing new is begun."""
        self._forget()
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _forget(self) -> None:
        for future in self._coming.values():
            future.cancel()
        self._coming.clear()

    def _make(self, step: int) -> Load:
        epoch, batch = self._order.plan.place(step)
        with self._lock:
            records, share = self._order.batch(epoch, batch), self._share(epoch, batch)
        try:
            targets = target_tokens(self._examples, records)
            weight = self._objective.weight(self._examples, records)
            tokens = sum(len(self._examples[int(i)][0]) for i in records)
            micros = [Micro(m.position, self._inputs(m, records)) for m in share]
            return Load(epoch, batch, targets, weight, tokens, micros)
        except Exception as error:
            raise self._words(step, records, error) from error

    def _share(self, epoch: int, batch: int) -> list[MicroBatch]:
        mine = self._order.share(epoch, batch, self._rank)
        if not self._lockstep:
            return mine
        # The first rank has the most in a short last batch; the others make up the number with empty ones.
        most = len(self._order.share(epoch, batch, 0))
        return [*mine, *[EMPTY] * (most - len(mine))]

    def _inputs(self, micro: MicroBatch, records: Indices) -> Batch:
        if len(micro.indices):
            batch = self._objective.collate(self._examples, micro.indices, self._pad)
        else:
            batch = without_targets(self._objective.collate(self._examples, records[:1], self._pad))
        return batch.pinned() if self._pin else batch

    def _words(self, step: int, records: Indices, error: Exception) -> RunError:
        """Which record it was: asked one by one, now that there is time."""
        where = f"the batch of step {step + 1}"
        for index in records:
            try:
                self._examples[int(index)]
            except Exception as found:
                where, error = f"training row {int(index)} (of step {step + 1})", found
                break
        return RunError(
            ExitCode.DATA_INVALID,
            f"{where} cannot be read from the encoded data: {type(error).__name__}: {error}; "
            "the scratch volume may be damaged, start the pod on another node",
        )
