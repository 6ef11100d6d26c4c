"""Batches come bit for bit the same from any number of workers, from any step on; a record that cannot be read is named."""

import hashlib
import threading
from typing import Any

import numpy as np
import pytest

from finetune_api.exitcodes import ExitCode
from finetune_api.training import Training
from finetune_trainer.common.errors import RunError
from finetune_trainer.data.packed import Packed
from finetune_trainer.data.packing import best_fit
from finetune_trainer.engine.loader import AHEAD, Load, Loader
from finetune_trainer.engine.order import Order
from finetune_trainer.engine.plan import plan_batches
from finetune_trainer.objectives.sft import SFT
from tests.trainer.test_engine_isolation import Records

ROWS, STEPS = 37, 12


class Watched(Records):
    """Counts who asks from which thread; one record may be broken."""

    def __init__(self, *records: Any) -> None:
        super().__init__(*records)
        self.threads: set[str] = set()
        self.broken: int | None = None

    def __getitem__(self, index: Any) -> Any:
        self.threads.add(threading.current_thread().name)
        if index == self.broken:
            raise OSError("Input/output error")
        return super().__getitem__(index)


def records(count: int = ROWS) -> Watched:
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 20, count)
    return Watched((rng.integers(1, 50, n).astype(np.int32), np.ones(n, dtype=np.bool_)) for n in lengths)


def examples(packed: bool) -> Any:
    found = records(4 * ROWS if packed else ROWS)
    return Packed(found, best_fit(found.lengths, found.digests, 40), 40) if packed else found


def loader(source: Any, *, workers: int, rank: int = 0, world: int = 2, lockstep: bool = False) -> Loader:
    training = Training(global_batch_size=8, micro_batch_size=2, max_steps=STEPS)
    order = Order(plan_batches(training, len(source), world, packed=isinstance(source, Packed)), seed=3)
    return Loader(SFT(), source, order, rank, pad_id=0, lockstep=lockstep, workers=workers)


def digest(load: Load) -> str:
    hasher = hashlib.sha256(repr((load.epoch, load.batch, load.targets, load.tokens)).encode())
    for micro in load.micros:
        hasher.update(str(micro.position).encode())
        batch = micro.batch
        for tensor in (batch.ids_bt, batch.attention_bt, batch.targets_bt, batch.positions_bt):
            if tensor is not None:
                hasher.update(repr(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
    return hasher.hexdigest()


def digests(source: Any, start: int = 0, **options: Any) -> list[str]:
    found = loader(source, **options)
    try:
        return [digest(found.load(step)) for step in range(start, STEPS)]
    finally:
        found.close()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_any_number_of_workers_gives_the_same_batches(packed: bool, rank: int) -> None:
    source = examples(packed)
    reference = digests(source, workers=0, rank=rank)
    assert len(set(reference)) == STEPS
    assert digests(source, workers=1, rank=rank) == digests(source, workers=2, rank=rank) == reference


@pytest.mark.parametrize("packed", [False, True])
def test_a_resumed_loader_goes_on_where_the_first_stopped(packed: bool) -> None:
    source = examples(packed)
    reference = digests(source, workers=0)
    for start in range(STEPS):
        assert digests(source, start, workers=2) == reference[start:]


@pytest.mark.parametrize("packed", [False, True])
def test_two_ranks_take_what_one_would(packed: bool) -> None:
    source = examples(packed)
    alone, *both = (loader(source, workers=1, rank=rank, world=world) for rank, world in ((0, 1), (0, 2), (1, 2)))
    for step in range(STEPS):
        whole, parts = alone.load(step), [one.load(step) for one in both]
        assert {(part.targets, part.tokens) for part in parts} == {(whole.targets, whole.tokens)}
        together = [micro for part in parts for micro in part.micros]
        assert [m.position for m in together] == [m.position for m in whole.micros]
        assert [m.batch.ids_bt.tolist() for m in together] == [m.batch.ids_bt.tolist() for m in whole.micros]
    for one in (alone, *both):
        one.close()


def test_jumping_about_is_harmless() -> None:
    source = examples(True)
    reference = digests(source, workers=0)
    found = loader(source, workers=2)
    for step in (3, 4, 0, 11, 11, 5):
        assert digest(found.load(step)) == reference[step]
    found.close()


def test_lockstep_ranks_get_equal_numbers() -> None:
    # 37 rows in batches of 8: the fifth has 5, 4 for rank 0 and 1 for rank 1.
    loads = [loader(examples(False), workers=0, rank=rank, lockstep=True).load(4) for rank in (0, 1)]
    assert [len(load.micros) for load in loads] == [2, 2]
    assert not loads[1].micros[1].batch.targets_bt.any()


def test_workers_read_ahead_and_no_further_than_asked() -> None:
    source = examples(False)
    found = loader(source, workers=1)
    found.load(0)
    assert sorted(found._coming) == list(range(1, 1 + AHEAD))
    found.load(1)
    assert sorted(found._coming) == list(range(2, 2 + AHEAD))
    found.close()
    assert all(name.startswith("loader") for name in source.threads)


def test_nothing_is_read_beyond_the_last_step() -> None:
    found = loader(examples(False), workers=2)
    found.load(STEPS - 1)
    assert not found._coming
    found.close()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_record_that_cannot_be_read_is_named(workers: int) -> None:
    source = records()
    found = loader(source, workers=workers)
    source.broken = int(found._order.batch(0, 2)[3])
    found.load(0)
    found.load(1)
    with pytest.raises(RunError, match=rf"training row {source.broken} \(of step 3\).*OSError: Input/output") as caught:
        found.load(2)
    assert caught.value.code is ExitCode.DATA_INVALID
    found.close()


def test_closing_ends_the_threads() -> None:
    before = threading.active_count()
    found = loader(examples(False), workers=2)
    found.load(0)
    found.close()
    assert threading.active_count() == before


def test_waiting_is_measured() -> None:
    found = loader(examples(False), workers=1)
    assert found.waited == 0
    found.load(0)
    assert found.waited > 0
    found.close()
