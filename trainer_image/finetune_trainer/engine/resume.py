"""Where an attempt starts: rank 0 reads what its launcher found and verified, the others are told.

A checkpoint of another plan (global batch, number of records) would continue with other data than it was made with:
that is refused in words instead.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from finetune_api.exitcodes import ExitCode
from finetune_trainer.checkpoint import files, restore
from finetune_trainer.common import log
from finetune_trainer.common.channel import Channel
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine.agree import Agreement
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.loop import Start
from finetune_trainer.engine.plan import BatchPlan


def begin(
    channel: Channel,
    plan: BatchPlan,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    place: Place,
    agreement: Agreement,
) -> Start:
    """Equal parameters, moments and position on every rank."""
    start, folder = Start(), None
    if place.rank == 0 and (found := channel.resume()):
        folder = Path(found["folder"])
        position = files.read_position(folder)
        for what, saved, now in (
            ("global batch size", position.global_batch_size, plan.global_batch),
            ("number of training records", position.rows, plan.rows),
        ):
            if saved != now:
                raise RunError(
                    ExitCode.NO_CHECKPOINT,
                    f"the checkpoint {folder.name} was made with {what} {saved}, this attempt has {now}; "
                    "restore the data, or set another spec.runId to begin anew",
                )
        restore.load_trainable(model, folder)
        restore.load_optimizer(model, optimizer, folder)
        start = Start(position.step, position.tokens, position.loss)
    step, tokens = agreement.tell_all([start.step, start.tokens])
    restore.share(model, optimizer if step else None, place.device)
    if place.rank == 0:
        log.event("resumed" if step else "starting from the base model", step=step, total_steps=plan.total_steps)
    return start if place.rank == 0 else Start(step, tokens)
