"""Which encoded rows are trained on, how often in an epoch, and which are held out.

All of it follows from contents and the spec: no file order, world size or random state has a say. In this order:
duplicates go, the split is made of what is left, then training rows are balanced and weighted, and last come rows to
replay. So no duplicate straddles the split, and repeating a record never moves it to the other side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finetune_api.data import Data
from finetune_api.datafilters import BalanceStrategy
from finetune_api.retention import Replay
from finetune_trainer.data.encodings import Encodings
from finetune_trainer.data.minhash import clusters
from finetune_trainer.data.split import DEFAULT_PERCENT, held_out, replay_count

Rows = npt.NDArray[np.int64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Choice:
    train: Rows
    """In the order of the data; a row that is trained on n times an epoch stands n times."""
    validation: Rows
    overlapping: int = 0
    duplicates: int = 0
    near_duplicates: int = 0
    replayed: int = 0
    """Of `train`."""


def choose(store: Encodings, data: Data, replay: Replay | None = None) -> Choice:
    exact = _exact(store) if data.dedup and data.dedup.exact else _none(store)
    near = _near(store, data.dedup.near.threshold_percent / 100) if data.dedup and data.dedup.near else _none(store)
    near &= ~exact
    kept = ~(exact | near)
    replayed = store.sources == len(data.train) + len(data.validation.sources or ()) if replay else _none(store)
    if data.validation.sources:
        chosen = store.held_out
        shared = np.isin(store.digests, np.unique(store.digests[store.held_out])) & ~store.held_out
    else:
        percent = DEFAULT_PERCENT if data.validation.percent is None else data.validation.percent
        digests = held_out((int(d) for d in store.digests[kept & ~replayed]), percent)
        chosen = np.isin(store.digests, np.array(sorted(digests), dtype=np.uint64))
        shared = chosen & replayed
        chosen = chosen & ~replayed
    train = np.flatnonzero(kept & ~chosen & ~shared & ~replayed)
    if data.balance:
        train = _balanced(store, train, data.balance.strategy)
    train = _weighted(store, train, data)
    again = _again(store, np.flatnonzero(kept & ~shared & replayed), len(train), replay.percent if replay else 0)
    return Choice(
        np.concatenate([train, again]) if len(again) else train,
        np.flatnonzero(kept & chosen),
        overlapping=int((shared & kept).sum()),
        duplicates=int(exact.sum()),
        near_duplicates=int(near.sum()),
        replayed=len(again),
    )


def _again(store: Encodings, rows: Rows, others: int, percent: int) -> Rows:
    """Some of the rows, or all of them several times, in the order of the data."""
    if not len(rows) or not others:
        return rows[:0]
    wanted = replay_count(others, percent)
    copies = np.full(len(rows), wanted // len(rows), dtype=np.int64)
    copies[np.argsort(_mixed(store.digests[rows]), kind="stable")[: wanted % len(rows)]] += 1
    return np.repeat(rows, copies)


def _none(store: Encodings) -> npt.NDArray[np.bool_]:
    return np.zeros(len(store.digests), dtype=np.bool_)


def _exact(store: Encodings) -> npt.NDArray[np.bool_]:
    """Rows of a record that stands before, held-out sources aside: those are measured as they are."""
    rows = np.flatnonzero(~store.held_out)
    starts = np.searchsorted(store.records, store.records)
    with np.errstate(over="ignore"):
        keys = store.digests + (np.arange(len(starts)) - starts).astype(np.uint64) * _GOLDEN
    _, first = np.unique(keys[rows], return_index=True)
    found = _none(store)
    found[rows] = True
    found[rows[first]] = False
    return found


def _near(store: Encodings, threshold: float) -> npt.NDArray[np.bool_]:
    """Rows of records that are nearly one that stands before, or one of a held-out source."""
    numbers, first = np.unique(store.records, return_index=True)
    held = store.held_out[first]
    # Held-out records first, so that they are what others are duplicates of.
    order = np.argsort(~held, kind="stable")
    roots = clusters(np.asarray(store.signatures)[numbers[order]], threshold)
    dropped = np.zeros(len(numbers), dtype=np.bool_)
    dropped[order] = roots != np.arange(len(roots))
    dropped &= ~held
    return dropped[np.searchsorted(numbers, store.records)]


def _mixed(digests: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64's finalizer: the split looks at the digest itself, and who is held out must not decide who is left
    out."""
    with np.errstate(over="ignore"):
        z = digests + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _balanced(store: Encodings, rows: Rows, strategy: BalanceStrategy) -> Rows:
    groups = store.groups[rows]
    _, of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    target = int(sizes.max() if strategy is BalanceStrategy.UPSAMPLE else sizes.min()) if len(sizes) else 0
    copies = np.zeros(len(rows), dtype=np.int64)
    for group, size in enumerate(sizes):
        members = np.flatnonzero(of == group)
        members = members[np.argsort(_mixed(store.digests[rows[members]]), kind="stable")]
        copies[members] = target // int(size)
        copies[members[: target % int(size)]] += 1
    return np.repeat(rows, copies)


def _weighted(store: Encodings, rows: Rows, data: Data) -> Rows:
    if all(source.weight is None for source in data.train):
        return rows
    # Sources are numbered as the spec lists them, and training sources come first.
    weights = np.array([float(source.weight or 1) for source in data.train])
    weight = weights[store.sources[rows]]
    share = (_mixed(_mixed(store.digests[rows])) >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    return np.repeat(rows, np.floor(weight).astype(np.int64) + (share < weight - np.floor(weight)))
