"""Where an attempt starts: rank 0 reads what its launcher found and verified, the others are told.

A checkpoint of another plan (global batch, number of records) would continue with other data than it was made with:
that is refused in words instead.
"""

from __future__ import annotations

import json
from pathlib import Path

from finetune_api.exitcodes import ExitCode
from finetune_trainer.checkpoint import files, restore
from finetune_trainer.common import log
from finetune_trainer.common.channel import Channel
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine.agree import Agreement
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.plan import BatchPlan
from finetune_trainer.engine.start import Start
from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.methods.remember import memory_of


def begin(
    channel: Channel,
    plan: BatchPlan,
    strategy: Strategy,
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
        start = Start(
            position.step, position.tokens, position.loss, position.guard, position.watch, position.loss_scale
        )
        strategy.prepare_restore()
        restore.check(strategy.held(), folder)
    step, tokens = agreement.tell_all([start.step, start.tokens])
    if step:
        if not folder:
            strategy.prepare_restore()
        restore.scatter(strategy.held(), folder, place.device)
        strategy.restored()
    elif not strategy.spread:
        restore.share(strategy.held(), place.device)
    memory_of(strategy.model).restored(fresh=not step)
    if place.rank == 0:
        log.event("resumed" if step else "starting from the base model", step=step, total_steps=plan.total_steps)
    told = agreement.tell_text(json.dumps([start.guard, start.watch, start.loss_scale]))
    guard, watch, loss_scale = json.loads(told)
    return start if place.rank == 0 else Start(step, tokens, guard=guard, watch=watch, loss_scale=loss_scale)
