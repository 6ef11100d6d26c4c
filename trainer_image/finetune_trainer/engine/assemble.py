"""From a run config to a training loop that is ready to run, on every rank alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from finetune_api.reports import CheckpointReport
from finetune_api.runconfig import RunConfig
from finetune_trainer.checkpoint.commit import commit
from finetune_trainer.checkpoint.fences import list_fences
from finetune_trainer.checkpoint.retention import apply_retention
from finetune_trainer.checkpoint.saver import Saver
from finetune_trainer.common import log
from finetune_trainer.common.channel import Channel, Heart
from finetune_trainer.common.places import Places
from finetune_trainer.common.stores import open_checkpoints, open_run
from finetune_trainer.data.dataset import load_splits, report
from finetune_trainer.engine import model, resume
from finetune_trainer.engine.agree import Agreement
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.evaluate import held_out_loss
from finetune_trainer.engine.loop import Lead, Loop
from finetune_trainer.engine.metrics import Metrics
from finetune_trainer.engine.optim import make_optimizer
from finetune_trainer.engine.plan import BatchPlan, plan_batches
from finetune_trainer.engine.report import Reporter
from finetune_trainer.engine.seeding import seed_initialisation
from finetune_trainer.engine.step import Stepper


def assemble(
    config: RunConfig,
    places: Places,
    place: Place,
    agreement: Agreement,
    channel: Channel,
    heart: Heart,
    stop_signalled: Callable[[], bool],
) -> Loop:
    """Loads data and model, restores what the launcher chose to resume from. The process group must stand."""
    spec = config.spec
    tokenizer = model.load_tokenizer(places.model)
    splits = load_splits(config, places.data, tokenizer, lambda _records: heart.beat())
    plan = plan_batches(
        spec.training,
        len(splits.train),
        place.world_size,
        micro_override=config.micro_batch_size,
        on_gpu=place.device.type == "cuda",
    )
    seed_initialisation(spec.training.seed)
    net = model.build(spec, places.model, place.device)
    heart.beat()
    optimizer = make_optimizer(spec, net, place.device)
    start = resume.begin(channel, plan, net, optimizer, place, agreement)
    pad = model.pad_id(tokenizer)
    reporter = Reporter(channel, plan, start.step) if place.local_rank == 0 else None
    lead = _lead(config, places, reporter, heart) if reporter and place.rank == 0 else None
    if lead:
        report(splits.counts)
        _describe(config, plan, net)

    def evaluate(go_on: Callable[[], bool]) -> float | None:
        return held_out_loss(
            net,
            splits.validation,
            place,
            micro_batch=plan.micro_batch,
            pad_id=pad,
            precision=spec.training.precision,
            go_on=go_on,
        )

    stepper = Stepper(spec, net, optimizer, splits.train, plan, place, heart, pad)
    return Loop(
        config,
        plan,
        start,
        net,
        optimizer,
        stepper,
        evaluate,
        agreement,
        channel,
        heart,
        reporter,
        lead,
        stop_signalled,
    )


def _lead(config: RunConfig, places: Places, reporter: Reporter, heart: Heart) -> Lead:
    run, checkpoints = open_run(config), open_checkpoints(config)
    metrics = Metrics(places.attempt, run, config.attempt)

    def committed(done: CheckpointReport) -> None:
        reporter.committed(done)
        metrics.upload()
        log.event("checkpoint committed", **done.to_wire())
        for name in apply_retention(checkpoints, list_fences(run), keep=config.spec.checkpoint.keep.last):
            log.event("old checkpoint deleted", checkpoint=name)

    saver = Saver(
        lambda snapshot: commit(
            config, run, checkpoints, snapshot, places.saving, progress=lambda _bytes: heart.beat()
        ),
        committed,
    )
    return Lead(saver, metrics)


def _describe(config: RunConfig, plan: BatchPlan, net: nn.Module) -> None:
    log.event(
        "training",
        method=config.spec.method.type,
        parameters=sum(p.numel() for p in net.parameters()),
        trainable=sum(p.numel() for p in model.trainable(net)),
        attention=getattr(getattr(net, "config", None), "_attn_implementation", None),
        torch=torch.__version__,
        globalBatch=plan.global_batch,
        microBatch=plan.micro_batch,
        accumulation=plan.accumulation,
    )
