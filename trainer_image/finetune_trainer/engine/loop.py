"""The training loop: steps, and at each boundary between them one question to all ranks: stop, save, or go on?

A stop is answered by a committed checkpoint of exactly this step; no rank leaves before rank 0 has said so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from finetune_api.duration import parse_duration
from finetune_api.exitcodes import ExitCode
from finetune_api.reports import Stage
from finetune_api.runconfig import RunConfig
from finetune_trainer.checkpoint.saver import Saver
from finetune_trainer.checkpoint.snapshot import Position, Snapshot, copy
from finetune_trainer.common import log
from finetune_trainer.common.channel import Channel, Heart
from finetune_trainer.common.clock import monotonic
from finetune_trainer.common.errors import RunError
from finetune_trainer.engine.agree import PENDING, Agreed, Agreement
from finetune_trainer.engine.evaluate import HeldOut
from finetune_trainer.engine.metrics import evaluated, of_step
from finetune_trainer.engine.plan import BatchPlan
from finetune_trainer.engine.report import Reporter
from finetune_trainer.engine.start import Lead, Start
from finetune_trainer.engine.step import Stepper
from finetune_trainer.engine.straggler import Slowest, Straggler, unpacked
from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.engine.watch import Watch

TICK_SECONDS = 0.2
LAST_SAVE_SECONDS = 10.0
"""What a failing rank waits for a save of an earlier step, which is whole whatever has happened since."""


class Loop:
    def __init__(
        self,
        config: RunConfig,
        plan: BatchPlan,
        start: Start,
        strategy: Strategy,
        stepper: Stepper,
        watch: Watch,
        evaluate: Callable[[Callable[[], bool]], HeldOut | None],
        agreement: Agreement,
        channel: Channel,
        heart: Heart,
        reporter: Reporter | None,
        lead: Lead | None,
        saver: Saver | None,
        stop_signalled: Callable[[], bool],
    ) -> None:
        self._config, self._plan, self._start = config, plan, start
        self._strategy, self._step_once, self._evaluate, self._watch = strategy, stepper, evaluate, watch
        self._agreement, self._channel, self._heart, self._lead = agreement, channel, heart, lead
        self._saver = saver
        """Of every rank that holds a part of a checkpoint; rank 0 always has one."""
        self._reporter = reporter
        """Of the pod's first rank; the launcher answers from it."""
        self._stop_signalled = stop_signalled
        self._step, self._tokens, self._loss = start.step, start.tokens, start.loss
        self._guard, self._scale = stepper.guard, stepper.loss_scale
        self._busy, self._straggler = stepper.busy, Straggler()
        self._slowest: Slowest | None = None
        self._guard.restore(start.guard)
        self._scale.restore(start.loss_scale)
        watch.restore(start.watch)
        self._hang_seconds = parse_duration(config.spec.retry.hang_timeout)
        self._interval_steps = config.spec.checkpoint.interval_steps
        self._saved_step, self._saved_at, self._saved_over = start.step, monotonic(), watch.over
        self._saves_answered = channel.saves_requested()

    def run(self) -> ExitCode:
        """DONE or STOPPED; everything else is raised, after a save that is under way has had its chance to end."""
        try:
            return self._run()
        except Exception as error:
            if self._saver and self._saver.busy:
                log.event("a checkpoint is being saved; waiting for it", seconds=LAST_SAVE_SECONDS)
                self._saver.wait(LAST_SAVE_SECONDS)
            boat = self._lead.boat if self._lead else None
            if boat and not isinstance(error, RunError) and boat.rescue() is not None and self._stop_wanted():
                return ExitCode.STOPPED
            raise

    def _run(self) -> ExitCode:
        self._tell_interval()
        self._stage(Stage.TRAINING)
        while not self._look() and self._step < self._plan.total_steps:
            agreed = self._agreement.decide(
                stop=self._stop_wanted(),
                save=self._save_wanted(),
                code=self._failed(),
                busy=self._busy.seconds(),
            )
            self._end_together(agreed.code)
            self._name_slowest(agreed)
            if agreed.stop:
                return self._stop()
            if agreed.save and self._step > self._saved_step:
                self._save()
            self._train_one()
        if self._watch.over:
            self._tell_over()
        if self._step > self._saved_step or self._saved_over != self._watch.over:
            self._save_last()
        self._stage(Stage.DONE)
        self._agreement.barrier()
        return ExitCode.DONE

    def _look(self) -> bool:
        """The held-out loss where it is due; whether to end early. A stop that interrupts it leaves it due."""
        if self._watch.due(self._step):
            loss = self._held_out()
            if loss is not None:
                self._watch.note(self._step, loss)
        return self._watch.over

    def _tell_over(self) -> None:
        if self._lead:
            log.event("early stop", why=self._watch.words())
        if self._reporter:
            self._reporter.over(self._step, self._watch.words())

    def _train_one(self) -> None:
        began = monotonic()
        result = self._step_once(self._step)
        seconds = monotonic() - began
        self._step += 1
        self._tokens += result.targets
        if math.isfinite(result.loss):
            self._loss = result.loss
        if self._lead and self._lead.boat:
            self._lead.boat.keep(self._position(), self._strategy.held())
        skipped = self._guard.skipped + self._scale.skipped
        if self._reporter:
            self._reporter.step(self._step, loss=self._loss, skipped=skipped, seconds=seconds, tokens=result.tokens)
            self._reporter.waited(result.data_seconds, seconds)
            self._reporter.retained(result.retention)
        if self._lead and result.skipped:
            log.warning("batch left out", step=self._step, reason=result.skipped, skipped=skipped)
        if self._lead:
            self._lead.metrics.write(self._step, of_step(result, seconds, self._step / self._plan.steps_per_epoch))

    def _name_slowest(self, agreed: Agreed) -> None:
        found = self._straggler.note(*unpacked(agreed.slow, agreed.fast)) if self._plan.world_size > 1 else None
        if self._lead and (found is None) != (self._slowest is None):
            if found:
                log.warning("everybody waits for one rank", rank=found.rank, times_the_fastest=found.ratio)
            if self._reporter:
                self._reporter.slowest(found)
        self._slowest = found

    def _stop_wanted(self) -> bool:
        return self._stop_signalled() or self._channel.stop_requested() is not None

    def _save_wanted(self) -> bool:
        """Rank 0 decides by the clock and by requests; `intervalSteps` is plain to everybody."""
        if self._interval_steps and self._step % self._interval_steps == 0:
            return True
        if self._watch.best_now(self._step):
            return True
        if not self._lead or not self._saver or self._saver.busy:
            return False
        asked = self._channel.saves_requested()
        due = monotonic() - self._saved_at >= self._lead.cadence.seconds()
        if asked > self._saves_answered:
            self._saves_answered = asked
            return True
        return due

    def _failed(self) -> int:
        error = self._saver.error() if self._saver else None
        return int(error.code) if error else 0

    def _end_together(self, code: int) -> None:
        if not code:
            return
        error = self._saver.error() if self._saver else None
        raise error or RunError(ExitCode(code), "rank 0 could not commit a checkpoint; its own message says why")

    def _position(self) -> Position:
        return Position(
            step=self._step,
            epoch=self._step / self._plan.steps_per_epoch,
            tokens=self._tokens,
            loss=self._loss,
            total_steps=self._step if self._watch.over else self._plan.total_steps,
            world_size=self._plan.world_size,
            global_batch_size=self._plan.global_batch,
            rows=self._plan.rows,
            packed=self._plan.packed,
            guard=self._guard.state(),
            watch=self._watch.state(),
            loss_scale=self._scale.state(),
            eval_loss=self._watch.loss(self._step),
        )

    def _snapshot(self) -> Snapshot:
        began = monotonic()
        trainable, optimizer, parts = copy(self._strategy.held())
        return Snapshot(self._position(), trainable, optimizer, parts, began, monotonic() - began)

    def _begin_save(self, *, persistent: bool) -> None:
        self._saved_step, self._saved_at, self._saved_over = self._step, monotonic(), self._watch.over
        if self._saver:
            while not self._saver.wait(TICK_SECONDS):  # rank 0 heard a moment earlier that all is over
                self._heart.beat()
            self._saver.start(self._snapshot(), persistent=persistent)

    def _save(self) -> None:
        """Periodic: training goes on while bytes travel, except behind an earlier save that has not ended."""
        self._stage(Stage.SAVING)
        self._end_together(self._until(self._earlier_save_over))
        began = monotonic()
        self._begin_save(persistent=False)
        self._held_out_once()
        if self._lead:
            self._lead.cadence.cost(monotonic() - began)
            self._tell_interval()
        self._stage(Stage.TRAINING)

    def _tell_interval(self) -> None:
        if self._lead and self._reporter:
            self._reporter.interval(self._lead.cadence.seconds())

    def _save_last(self) -> None:
        self._stage(Stage.SAVING)
        self._end_together(self._until(self._earlier_save_over))
        self._begin_save(persistent=False)
        self._held_out_once()
        self._end_together(self._until(self._committed))

    def _stop(self) -> ExitCode:
        if self._lead and self._lead.boat:
            self._lead.boat.stand_down()
        self._stage(Stage.STOPPING)
        if self._saver:
            self._saver.hurry()
        self._until(self._earlier_save_over)
        if self._agreement.tell(int(self._already_saved())):
            log.event("stopping; this step is committed already", step=self._step)
        elif self._step == 0:
            raise RunError(ExitCode.STOPPED_UNSAVED, "stopped before the first step; there was nothing to save")
        else:
            log.event("stopping; saving the agreed step", step=self._step)
            self._begin_save(persistent=True)
            self._end_together(self._until(self._committed))
        self._agreement.barrier()
        return ExitCode.STOPPED

    def _already_saved(self) -> bool:
        last = self._saver.last if self._saver else None
        return (last is not None and last.step == self._step) or 0 < self._step == self._start.step

    def _earlier_save_over(self) -> int:
        assert self._saver
        if self._saver.wait(TICK_SECONDS):
            return self._failed()
        # Writing and digesting large files shows no sign of life either.
        self._saver.give_up_after(3 * self._hang_seconds)
        return self._failed() or PENDING

    def _committed(self) -> int:
        assert self._saver
        if not self._saver.wait(TICK_SECONDS):
            return PENDING
        last = self._saver.last
        if last is None or last.step != self._step:
            return self._failed() or int(ExitCode.STORAGE)
        return 0

    def _until(self, over: Callable[[], int]) -> int:
        """Rank 0 watches its saver; the others hear of it every tick, which also keeps their hearts beating."""
        while (value := self._agreement.tell(over() if self._lead else 0)) == PENDING:
            self._failed()
            self._heart.beat()
        return value

    def _held_out_once(self) -> None:
        if self._watch.step != self._step:
            self._held_out()

    def _held_out(self) -> float | None:
        def go_on() -> bool:
            self._heart.beat()
            return not self._agreement.decide(stop=self._stop_wanted()).stop

        found = self._evaluate(go_on)
        if found and self._reporter:
            self._reporter.evaluated(found.loss)
        if found and self._lead:
            self._lead.metrics.write(self._step, evaluated(found))
        return found.loss if found else None

    def _stage(self, stage: Stage) -> None:
        if self._reporter:
            self._reporter.stage(stage)
