"""The process of one rank. Started by the launcher through elastic, one per GPU (or CPU process).

It ends by its exit code alone: `os._exit`, because tearing down a broken process group may hang for ever.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING

from finetune_api.exitcodes import ExitCode
from finetune_api.runconfig import RunConfig
from finetune_trainer.common import log
from finetune_trainer.common.channel import Channel, Heart, RankError
from finetune_trainer.common.clock import monotonic
from finetune_trainer.common.config import load_config
from finetune_trainer.common.places import Places
from finetune_trainer.engine.failures import classify

if TYPE_CHECKING:
    from finetune_api.reports import CheckpointReport
    from finetune_trainer.engine.loop import Lead
    from finetune_trainer.engine.plan import BatchPlan

DUMP_SIGNAL = signal.SIGUSR1
"""Makes a rank print the stacks of all its threads."""
_PR_SET_PDEATHSIG = 1


class Rank:
    """Life cycle of one rank."""

    def __init__(self, config: RunConfig, places: Places) -> None:
        self.config, self.places = config, places
        self.rank = int(os.environ["RANK"])
        self.channel = Channel(places.channel)
        self.heart = Heart(self.channel, self.rank)
        self.stop = threading.Event()
        self.started = False

    def run(self) -> ExitCode:
        import torch

        from finetune_trainer.data.dataset import load_splits, report
        from finetune_trainer.engine import context, model, resume
        from finetune_trainer.engine.agree import Agreement
        from finetune_trainer.engine.evaluate import held_out_loss
        from finetune_trainer.engine.loop import Loop
        from finetune_trainer.engine.optim import make_optimizer
        from finetune_trainer.engine.plan import plan_batches
        from finetune_trainer.engine.seeding import seed_initialisation
        from finetune_trainer.engine.step import Stepper

        spec = self.config.spec
        self.heart.beat()
        place = context.join(self.config.gpus_per_node)
        agreement = Agreement()
        context.self_test(place)
        self.started = True
        self.heart.beat()
        tokenizer = model.load_tokenizer(self.places.model)
        splits = load_splits(self.config, self.places.data, tokenizer, lambda _records: self.heart.beat())
        if self.rank == 0:
            report(splits.counts)
        plan = plan_batches(
            spec.training,
            len(splits.train),
            place.world_size,
            micro_override=self.config.micro_batch_size,
            on_gpu=place.device.type == "cuda",
        )
        seed_initialisation(spec.training.seed)
        net = model.build(spec, self.places.model, place.device)
        self.heart.beat()
        optimizer = make_optimizer(spec, net, place.device)
        start = resume.begin(self.channel, plan, net, optimizer, place, agreement)
        pad = model.pad_id(tokenizer)
        loop = Loop(
            self.config,
            plan,
            start,
            net,
            optimizer,
            Stepper(spec, net, optimizer, splits.train, plan, place, self.heart, pad),
            lambda go_on: held_out_loss(
                net,
                splits.validation,
                place,
                micro_batch=plan.micro_batch,
                pad_id=pad,
                precision=spec.training.precision,
                go_on=go_on,
            ),
            agreement,
            self.channel,
            self.heart,
            self._lead(plan, start.step) if self.rank == 0 else None,
            self.stop.is_set,
        )
        if self.rank == 0:
            trained = sum(p.numel() for p in model.trainable(net))
            log.event(
                "training",
                method=spec.method.type,
                parameters=sum(p.numel() for p in net.parameters()),
                trainable=trained,
                attention=getattr(getattr(net, "config", None), "_attn_implementation", None),
                torch=torch.__version__,
                global_batch=plan.global_batch,
                micro_batch=plan.micro_batch,
                accumulation=plan.accumulation,
            )
        return loop.run()

    def _lead(self, plan: BatchPlan, start_step: int) -> Lead:
        from finetune_trainer.checkpoint.commit import commit
        from finetune_trainer.checkpoint.fences import list_fences
        from finetune_trainer.checkpoint.retention import apply_retention
        from finetune_trainer.checkpoint.saver import Saver
        from finetune_trainer.common.stores import open_checkpoints, open_run
        from finetune_trainer.engine.loop import Lead, report_commit
        from finetune_trainer.engine.metrics import Metrics
        from finetune_trainer.engine.report import Reporter

        config, run, checkpoints = self.config, open_run(self.config), open_checkpoints(self.config)
        reporter = Reporter(self.channel, plan, start_step)
        metrics = Metrics(self.places.attempt, run, config.attempt)
        announce = report_commit(reporter, metrics)

        def committed(done: CheckpointReport) -> None:
            announce(done)
            for name in apply_retention(checkpoints, list_fences(run), keep=config.spec.checkpoint.keep.last):
                log.event("old checkpoint deleted", checkpoint=name)

        saver = Saver(
            lambda snapshot: commit(
                config, run, checkpoints, snapshot, self.places.saving, progress=lambda _bytes: self.heart.beat()
            ),
            committed,
        )
        return Lead(saver, reporter, metrics)


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    faulthandler.register(DUMP_SIGNAL, all_threads=True)
    config, places = load_config(), Places.here()
    rank = Rank(config, places)
    log.bind(attempt=config.attempt, rank=rank.rank)
    signal.signal(signal.SIGTERM, lambda *_: rank.stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = rank.run()
    except BaseException as error:
        code = _failed(rank, error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _failed(rank: Rank, error: BaseException) -> ExitCode:
    failure = classify(error, started=rank.started)
    trace = "".join(traceback.format_exception(error))
    rank.channel.put_error(
        RankError(
            rank=rank.rank,
            code=int(failure.code),
            reason=failure.reason,
            message=failure.message,
            traceback=trace[-4096:],
            at=monotonic(),
            secondary=failure.secondary,
            step=int(rank.channel.progress().get("step", 0)),
        )
    )
    log.error(failure.message, reason=failure.reason, exit_code=int(failure.code))
    if failure.code is ExitCode.FAILED and not failure.secondary:
        sys.stderr.write(trace)
    return failure.code


if __name__ == "__main__":
    main()
