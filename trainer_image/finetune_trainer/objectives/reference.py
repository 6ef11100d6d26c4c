"""What the base model says of every pair, written down before the first step where the base is not kept.

A job whose weights all train has no base left to ask once it has trained. A second copy would take as much memory as
the first; two numbers a pair do not. They are computed from the freshly loaded model, before anything is restored, and
kept in the run directory: an attempt that resumes reads the same bits, whatever its world size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.numpy import load, save

from finetune_api.layout import OBJECTIVE_DIR
from finetune_artifacts import NotFound, Store
from finetune_trainer.common import log
from finetune_trainer.engine.agree import Agreement
from finetune_trainer.engine.batch import without_targets
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.loss import row_log_probs
from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.objectives.pairs import Pairs, collate_pairs

Known = npt.NDArray[np.float32]
"""(pairs, 2)."""
_NAME = "log_probs"


def with_reference(
    pairs: Pairs,
    run: Store,
    strategy: Strategy,
    place: Place,
    agreement: Agreement,
    *,
    micro_batch: int,
    pad_id: int,
    alive: Callable[[], None],
) -> Pairs:
    """The pairs with the base's log-likelihoods. On every rank, while `strategy` holds the base model."""
    path = f"{OBJECTIVE_DIR}/reference-{_key(pairs)}.safetensors"
    known = _read(run, path, len(pairs)) if place.rank == 0 else None
    if not agreement.tell(int(known is not None)):
        known = ask(pairs, strategy, place, micro_batch=micro_batch, pad_id=pad_id, alive=alive)
        if place.rank == 0:
            run.put_bytes(path, save({_NAME: known}))
            log.event("the base model's log-likelihoods are written down", pairs=len(pairs))
        agreement.barrier()
    elif place.rank != 0:
        known = _read(run, path, len(pairs))
    if known is None:
        raise OSError(f"{run.uri_of(path)} was there a moment ago and cannot be read now")
    return pairs.knowing(known)


def ask(
    pairs: Pairs, strategy: Strategy, place: Place, *, micro_batch: int, pad_id: int, alive: Callable[[], None]
) -> Known:
    """Equal on all ranks, and independent of their number up to rounding."""
    found = torch.zeros(len(pairs), 2, dtype=torch.float32, device=place.device)
    per_round = micro_batch * place.world_size
    model = strategy.model.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(pairs), per_round):
                alive()
                first = start + place.rank * micro_batch
                indices = range(first, min(first + micro_batch, len(pairs)))
                if not indices and not strategy.lockstep:
                    continue
                batch = collate_pairs(pairs, indices or range(1), pad_id)
                batch = batch if indices else without_targets(batch)
                with strategy.precision():
                    row_b = row_log_probs(model, batch.to(place.device))
                if indices:
                    found[first : indices.stop] = row_b.reshape(2, -1).T
    finally:
        model.train()
    dist.all_reduce(found)
    return np.ascontiguousarray(found.cpu().numpy())


def _key(pairs: Pairs) -> str:
    """The run directory already stands for the model and the data; this says which part of the data."""
    content = pairs.digests.tobytes() + pairs.lengths.tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def _read(run: Store, path: str, count: int) -> Known | None:
    """None when it is not there or not whole: it can be computed again."""
    try:
        document: dict[str, Any] = load(run.get_bytes(path))
    except (NotFound, SafetensorError):
        return None
    known = document.get(_NAME)
    return known if known is not None and known.shape == (count, 2) else None
