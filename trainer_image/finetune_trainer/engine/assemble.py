"""From a run config to a training loop that is ready to run, on every rank alike."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import torch

from finetune_api.objective import BESIDE_THE_BASE, objective_of, teacher_of
from finetune_api.reports import CheckpointReport
from finetune_api.runconfig import RunConfig
from finetune_trainer.checkpoint.commit import commit
from finetune_trainer.checkpoint.fences import list_fences
from finetune_trainer.checkpoint.interval import history, mean_time_between
from finetune_trainer.checkpoint.retention import apply_retention
from finetune_trainer.checkpoint.saver import Saver
from finetune_trainer.checkpoint.snapshot import Snapshot
from finetune_trainer.checkpoint.together import Together
from finetune_trainer.common import log
from finetune_trainer.common.channel import Channel, Heart
from finetune_trainer.common.places import Places
from finetune_trainer.common.stores import open_checkpoints, open_run
from finetune_trainer.data import data_report
from finetune_trainer.data.curriculum import arrangement
from finetune_trainer.data.dataset import load_splits, report
from finetune_trainer.engine import lifeboat, model, resume
from finetune_trainer.engine.agree import Agreement
from finetune_trainer.engine.cadence import Cadence
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.evaluate import HeldOut, held_out_loss
from finetune_trainer.engine.isolation import attention_of, check_isolation
from finetune_trainer.engine.lifeboat import Lifeboat
from finetune_trainer.engine.loop import Loop
from finetune_trainer.engine.metrics import Metrics
from finetune_trainer.engine.plan import BatchPlan, plan_batches
from finetune_trainer.engine.regularise import regularise
from finetune_trainer.engine.report import Reporter
from finetune_trainer.engine.rows import held_out_rows, training_rows
from finetune_trainer.engine.seeding import seed_initialisation
from finetune_trainer.engine.start import Lead, Start
from finetune_trainer.engine.step import Stepper
from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.engine.strategy.choose import Choice, build, choose
from finetune_trainer.engine.strategy.zero_start import elements
from finetune_trainer.engine.watch import Watch
from finetune_trainer.methods.remember import memory_of
from finetune_trainer.objectives import choose as objectives
from finetune_trainer.objectives.distill import Distill, equip
from finetune_trainer.objectives.dpo import has_base_inside
from finetune_trainer.objectives.judge import load_judge
from finetune_trainer.objectives.pairs import Pairs
from finetune_trainer.objectives.policy import Policy
from finetune_trainer.objectives.reference import with_reference
from finetune_trainer.retention.choose import terms_of


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
    spec, objective = config.spec, objectives.choose(config.spec)
    tokenizer = model.load_tokenizer(places.model)
    splits = load_splits(config, places.data, tokenizer, lambda _records: heart.beat())
    rows = training_rows(config, places, splits.train, channel, agreement, heart)
    plan = plan_batches(
        spec.training,
        len(rows.examples),
        place.world_size,
        micro_override=config.micro_batch_size,
        on_gpu=place.device.type == "cuda",
        packed=rows.packed is not None,
    )
    watch = Watch(spec, steps_per_epoch=plan.steps_per_epoch, total_steps=plan.total_steps)
    watch.require(len(splits.validation))
    seed_initialisation(spec.training.seed)
    taught = places.teacher if teacher_of(spec) else None
    choice = choose(spec, places.model, plan, place, ranks_per_node=config.processes_per_node, teacher=taught)
    strategy = build(choice, spec, places.model, place, ranks_per_node=config.processes_per_node)
    heart.beat()
    pad = model.pad_id(tokenizer)
    held_out = held_out_rows(spec, splits.validation)
    train: Any = rows.examples
    beside = objective_of(spec).type in BESIDE_THE_BASE
    if beside and isinstance(train, Pairs) and not has_base_inside(strategy.model, spec.method):
        train, held_out = (
            with_reference(
                pairs,
                open_run(config),
                strategy,
                place,
                agreement,
                micro_batch=plan.micro_batch,
                pad_id=pad,
                alive=heart.beat,
            )
            for pairs in (train, held_out)
        )
    if isinstance(objective, Distill):
        equip(objective, spec, places.teacher, strategy.model, place.device, (rows.examples, held_out))
        heart.beat()
    if isinstance(objective, Policy):
        objective.equip(tokenizer, train, pad, load_judge(spec, places.teacher, place.device))
        heart.beat()
    terms = terms_of(config, places, tokenizer, strategy, plan, place, agreement, pad_id=pad, alive=heart.beat)
    memory_of(strategy.model).planned(plan.total_steps)
    start = resume.begin(channel, plan, strategy, place, agreement)
    if rows.packed:
        with strategy.precision():
            check_isolation(strategy.model, place.device)
            if isinstance(objective, Distill):
                check_isolation(objective.teacher, place.device)
        heart.beat()
    reporter = Reporter(channel, plan, start.step) if place.local_rank == 0 else None
    if reporter:
        reporter.settled(strategy=choice.name, why=choice.why, attention=attention_of(strategy.model))
    lead = _lead(config, places) if place.rank == 0 else None
    together = Together(alone=not strategy.spread)
    saver = _saver(config, places, together, reporter, lead, heart) if lead or strategy.spread else None
    if lead and lifeboat.wanted(spec, place.world_size, spread=strategy.spread):
        lead.boat = _boat(config, places, channel, start, reporter, lead, heart)
    if lead:
        report(splits.counts, rows.packed, rows.why)
        data_report.store(open_run(config), data_report.build(config, splits, rows.packed, rows.why, tokenizer))
        _describe(config, plan, strategy, choice)

    def evaluate(go_on: Callable[[], bool]) -> HeldOut | None:
        return held_out_loss(
            strategy,
            objective,
            held_out,
            place,
            micro_batch=plan.micro_batch,
            pad_id=pad,
            go_on=go_on,
            alive=heart.beat,
        )

    regularise(spec.training.regularization, strategy.model, pad)
    in_order = arrangement(spec.data, splits.train, splits.store)
    stepper = Stepper(spec, strategy, objective, train, plan, place, heart, pad, terms, in_order)
    return Loop(
        config,
        plan,
        start,
        strategy,
        stepper,
        watch,
        evaluate,
        agreement,
        channel,
        heart,
        reporter,
        lead,
        saver,
        stop_signalled,
    )


def _lead(config: RunConfig, places: Places) -> Lead:
    run = open_run(config)
    mtbf = mean_time_between(*history(list_fences(run), datetime.now(UTC)), nodes=config.nodes)
    return Lead(Metrics(places.attempt, run, config.attempt), Cadence(config.spec.checkpoint.interval, mtbf))


def _boat(
    config: RunConfig,
    places: Places,
    channel: Channel,
    start: Start,
    reporter: Reporter | None,
    lead: Lead,
    heart: Heart,
) -> Lifeboat:
    run, checkpoints = open_run(config), open_checkpoints(config)

    def save(snapshot: Snapshot) -> CheckpointReport:
        done = commit(
            config, run, checkpoints, snapshot, places.saving / "lifeboat", progress=lambda _bytes: heart.beat()
        )
        if reporter:
            reporter.committed(done)
        lead.metrics.upload()
        log.event("checkpoint committed", **done.to_wire())
        return done

    boat = Lifeboat(channel, save, start.step)
    boat.watch()
    return boat


def _saver(
    config: RunConfig, places: Places, together: Together, reporter: Reporter | None, lead: Lead | None, heart: Heart
) -> Saver:
    run, checkpoints = open_run(config), open_checkpoints(config)
    scratch = places.saving / str(together.rank)

    def committed(done: CheckpointReport) -> None:
        if not lead or not reporter:
            return
        reporter.committed(done)
        lead.cadence.committed(done.seconds)
        if lead.boat:
            lead.boat.committed(done)
        reporter.interval(lead.cadence.seconds())
        lead.metrics.upload()
        log.event("checkpoint committed", **done.to_wire())
        keep = config.spec.checkpoint.keep
        for name in apply_retention(checkpoints, list_fences(run), keep=keep.last, best=keep.best or 0):
            log.event("old checkpoint deleted", checkpoint=name)

    def alive(_bytes: int) -> None:
        heart.beat()
        saver.alive()

    def save(snapshot: Snapshot) -> CheckpointReport:
        return commit(config, run, checkpoints, snapshot, scratch, together=together, progress=alive)

    saver = Saver(save, committed, together)
    return saver


def _describe(config: RunConfig, plan: BatchPlan, strategy: Strategy, choice: Choice) -> None:
    net = strategy.model
    log.event(
        "training",
        method=config.spec.method.type,
        strategy=choice.name,
        why=choice.why,
        activationCheckpointing=choice.recompute,
        parameters=sum(elements(p) for p in net.parameters()),
        trainable=sum(elements(p) for p in model.trainable(net)),
        attention=attention_of(net),
        kernels=config.spec.training.kernels,
        compiled=config.spec.training.compile,
        torch=torch.__version__,
        globalBatch=plan.global_batch,
        microBatch=plan.micro_batch,
        accumulation=plan.accumulation,
    )
