"""Random numbers by counter: dropout of a micro-batch depends on (seed, epoch, batch, position) and on nothing else.

So a resumed run draws what the undisturbed run drew, with no generator state in the checkpoint, and a run that
resumes with another world size but the same micro-batches draws the same as well.
"""

from __future__ import annotations

import torch

from finetune_trainer.engine.order import key

_ROWS = 0x4E6F697365
"""Keeps what is drawn per row apart from what is drawn per micro-batch."""
_here = (0, 0, 0, 0)


def seed_micro_batch(seed: int, epoch: int, batch: int, position: int) -> None:
    """Of the whole process, as torch's own seed is."""
    global _here
    _here = (seed, epoch, batch, position)
    torch.manual_seed(key(seed, epoch, batch, position))


def row_seed(row: int) -> int:
    """Of the micro-batch's row number `row`: the same however a global batch is cut into micro-batches and ranks."""
    seed, epoch, batch, position = _here
    return key(seed, epoch, batch, position + row, _ROWS)


def seed_initialisation(seed: int) -> None:
    """Equal on every rank: new parameters start equal."""
    torch.manual_seed(key(seed))
