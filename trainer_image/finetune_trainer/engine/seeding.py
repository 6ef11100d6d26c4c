"""Random numbers by counter: dropout of a micro-batch depends on (seed, epoch, batch, position) and on nothing else.

So a resumed run draws what the undisturbed run drew, with no generator state in the checkpoint, and a run that
resumes with another world size but the same micro-batches draws the same as well.
"""

from __future__ import annotations

import torch

from finetune_trainer.engine.order import key


def seed_micro_batch(seed: int, epoch: int, batch: int, position: int) -> None:
    torch.manual_seed(key(seed, epoch, batch, position))


def seed_initialisation(seed: int) -> None:
    """Equal on every rank: new parameters start equal."""
    torch.manual_seed(key(seed))
