"""PID 1 of a trainer pod. The main thread only watches: signals, deadlines, heartbeats, the end of the work.

Work happens on a thread: settle the fence and the checkpoint, fetch, run the ranks. Whatever that thread is stuck in,
the pod ends with last words and a code that says why.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time

from finetune_api.duration import parse_duration
from finetune_api.exitcodes import ExitCode, reason
from finetune_api.reports import CheckpointRequest, LastWords, Stage
from finetune_api.runconfig import PORT, RENDEZVOUS_PORT, RunConfig
from finetune_trainer.common import log, signals
from finetune_trainer.common.channel import Channel, margin
from finetune_trainer.common.clock import timestamp
from finetune_trainer.common.config import pod_index, run_token
from finetune_trainer.common.errors import RunError, SpecError
from finetune_trainer.common.lastwords import store_last_words, write_termination
from finetune_trainer.common.places import Places
from finetune_trainer.common.stores import open_run
from finetune_trainer.launcher.board import Board
from finetune_trainer.launcher.gang import run_gang, set_environment
from finetune_trainer.launcher.hang import Hang, HangWatch, is_frozen
from finetune_trainer.launcher.http import Server
from finetune_trainer.launcher.peers import Peers, wait_for_name
from finetune_trainer.launcher.prepare import fetch, settle
from finetune_trainer.launcher.tee import Tee
from finetune_trainer.launcher.verdict import Verdict, verdict
from finetune_trainer.tracking.start import Trackers

PORT_ENV = "FINETUNE_PORT"
RENDEZVOUS_PORT_ENV = "FINETUNE_RENDEZVOUS_PORT"
TICK_SECONDS = 0.2
PEERS_EVERY_SECONDS = 5.0
DUMP_SECONDS = 1.0
TRACKING_SECONDS = 20.0
"""For what trackers still have to send when training is complete."""
TRACKING_STOPPED_SECONDS = 2.0
"""And when it is not."""
BEFORE_TRAINING = frozenset({Stage.FETCHING, Stage.STARTING})


def train(config: RunConfig) -> int:
    """Runs one attempt's pod to its end and returns the container's exit code."""
    if config.attempt < 1:
        raise SpecError("attempt", config.attempt, "an attempt is numbered from 1; 0 is for preflight and publish")
    places, index = Places.here(), pod_index()
    for folder in (places.channel, places.attempt, places.saving, places.resume):
        shutil.rmtree(folder, ignore_errors=True)
    places.tmp.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(places.tmp)
    if not os.access(os.environ.get("HOME", "/"), os.W_OK):
        os.environ["HOME"] = str(places.scratch)
    tee = Tee(places.log)
    tee.install()
    log.bind(attempt=config.attempt, index=index)
    try:
        return Launcher(config, index, places, tee).run()
    finally:
        tee.restore(1.0)


class Launcher:
    def __init__(self, config: RunConfig, index: int, places: Places, tee: Tee) -> None:
        self._config, self._index, self._places, self._tee = config, index, places, tee
        token = run_token()
        self._board = Board(config, index, Channel(places.channel))
        self._peers = Peers(config, index, token)
        self._board.on_stop = self._peers.pass_stop_on
        port = int(os.environ.get(PORT_ENV, str(PORT)))
        try:
            self._server = Server(("", port), self._board, token, self._on_save)
        except OSError as error:
            raise RunError(
                ExitCode.DEVICE, f"port {port} for the endpoints cannot be opened: {error.strerror}"
            ) from None
        self._hang = HangWatch(parse_duration(config.spec.retry.hang_timeout))
        self._peers_asked = 0.0
        self._signalled: str | None = None
        self._trackers: Trackers | None = None

    def run(self) -> int:
        self._server.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._signalled = signals.heard()
        log.event(
            "launcher started",
            nodes=self._config.nodes,
            processes_per_node=self._config.processes_per_node,
            run=self._config.run_uri,
            grace_seconds=self._config.grace_seconds,
        )
        threading.Thread(target=self._work, name="work", daemon=True).start()
        if self._index == 0:
            self._trackers = Trackers(self._config, self._places.scratch)
        while (found := self._look()) is None:
            self._board.changed.wait(TICK_SECONDS)
            self._board.changed.clear()
        self._end(found)
        return found.code

    def _on_signal(self, number: int, _frame: object) -> None:
        """Only notes the name: the main thread may hold any lock right now, so nothing that takes one belongs here."""
        self._signalled = signal.Signals(number).name

    def _work(self) -> None:
        try:
            if self._index == 0:
                settle(self._config, self._board, self._places)
            # Importing torch takes seconds; the transfer does not need this thread's processor.
            threading.Thread(target=__import__, args=("torch.distributed.launcher.api",), daemon=True).start()
            fetch(self._config, self._board, self._places)
            self._board.enter(Stage.STARTING)
            set_environment(self._config)
            patience = parse_duration(self._config.spec.retry.hang_timeout)
            wait_for_name(self._config, self._index, self._board, patience)
            port = int(os.environ.get(RENDEZVOUS_PORT_ENV, str(RENDEZVOUS_PORT)))
            run_gang(self._config, self._index, port)
        except BaseException as error:
            self._board.finish(error)
        else:
            self._board.enter(Stage.DONE)
            self._board.finish(None)

    def _on_save(self, request: CheckpointRequest) -> None:
        self._board.request_save()
        self._peers.pass_save_on(request)

    def _look(self) -> Verdict | None:
        board, now = self._board, self._board.clock()
        if self._signalled and board.stop is None:
            board.request_stop(self._signalled)
        if board.finished:
            progress = board.channel.progress()
            return verdict(
                board.error,
                board.channel.errors(),
                stopping=board.stop is not None,
                step=int(progress.get("step", 0)),
                early=progress.get("endedEarly"),
            )
        stage = board.stage
        if board.stop and stage in BEFORE_TRAINING:
            return self._stopped_unsaved("stopped before training had begun; nothing new was there to save")
        if board.stop and now > board.stop.deadline:
            return self._stopped_unsaved(
                f"the checkpoint was not committed within {self._config.grace_seconds:.0f} s of grace "
                f"(less {margin(self._config.grace_seconds):.0f} s for these words); the older one stands"
            )
        if stage is Stage.DONE:
            return None
        ranks = board.channel.beats()
        beats = {rank: beat for rank, (_pid, beat) in ranks.items()}
        self._ask_peers(now, waiting=not beats and stage is Stage.STARTING)
        frozen = [rank for rank, (pid, _beat) in ranks.items() if is_frozen(pid)]
        hang = self._hang.check(now, beats, board.last_beat, training=stage not in BEFORE_TRAINING, frozen=frozen)
        return self._hung(hang) if hang else None

    def _ask_peers(self, now: float, *, waiting: bool) -> None:
        """While this pod waits for others, their answers are its signs of life."""
        if waiting and now - self._peers_asked > PEERS_EVERY_SECONDS:
            self._peers_asked = now
            if self._peers.all_answer():
                self._board.beat()

    def _stopped_unsaved(self, message: str) -> Verdict:
        return Verdict(ExitCode.STOPPED_UNSAVED, reason(ExitCode.STOPPED_UNSAVED), message)

    def _hung(self, hang: Hang) -> Verdict:
        """Stacks of all local ranks go to the log before anybody is killed."""
        from finetune_trainer.engine.worker import DUMP_SIGNAL

        who = "the pod" if hang.rank is None else f"rank {hang.rank}"
        log.error("hang: dumping stacks", who=who, silent_seconds=round(hang.silent_seconds, 1))
        self._signal_ranks(DUMP_SIGNAL)
        time.sleep(DUMP_SECONDS)
        stage = self._board.stage
        message = f"{who} showed no progress for {hang.silent_seconds:.0f} s in stage {stage}; stacks are in the log"
        return Verdict(ExitCode.HANG, reason(ExitCode.HANG), message, hang.rank)

    def _signal_ranks(self, number: signal.Signals) -> None:
        for pid, _beat in self._board.channel.beats().values():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def _end(self, found: Verdict) -> None:
        progress = self._board.progress()
        stop = self._board.stop
        report = log.event if found.code in (ExitCode.DONE, ExitCode.STOPPED) else log.error
        report(found.message, reason=found.reason, exit_code=found.code)
        if not self._board.finished:
            self._signal_ranks(signal.SIGKILL)
        if self._trackers:
            self._trackers.end(found.code, seconds=self._tracking_seconds(found.code))
        self._tee.restore(1.0)
        words = LastWords(
            attempt=self._config.attempt,
            index=self._index,
            exit_code=found.code,
            reason=found.reason,
            message=found.message,
            first_failing_rank=found.first_failing_rank,
            step=progress.step,
            start_step=progress.start_step,
            running_at=progress.running_at,
            checkpoint=progress.checkpoint,
            stop_requested_at=stop.requested_at if stop else None,
            micro_batch_size=progress.micro_batch_size,
            traceback=found.traceback,
            log_tail=self._tee.tail(),
            at=timestamp(),
        )
        write_termination(words)
        self._store(words)

    def _tracking_seconds(self, code: int) -> float:
        """Nobody waits for a tracker while a node's notice runs."""
        if code == ExitCode.DONE:
            return TRACKING_SECONDS
        stop = self._board.stop
        left = stop.deadline - self._board.clock() if stop else TRACKING_SECONDS
        return max(0.0, min(TRACKING_STOPPED_SECONDS, left))

    def _store(self, words: LastWords) -> None:
        """On a thread: a store that hangs must not keep the pod from ending."""

        def store() -> None:
            try:
                store_last_words(open_run(self._config), words)
            except Exception as error:
                log.warning("the last words could not be stored", cause=str(error))

        thread = threading.Thread(target=store, name="last-words", daemon=True)
        thread.start()
        thread.join(margin(self._config.grace_seconds) / 2)
