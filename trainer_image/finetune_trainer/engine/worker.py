"""The process of one rank. Started by the launcher through elastic, one per GPU (or CPU process).

It ends by its exit code alone: `os._exit`, because tearing down a broken process group may hang for ever.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import traceback
from dataclasses import replace

from finetune_api.exitcodes import ExitCode
from finetune_api.runconfig import RunConfig
from finetune_trainer.common import log
from finetune_trainer.common.channel import Channel, Heart, RankError
from finetune_trainer.common.clock import monotonic
from finetune_trainer.common.config import load_config
from finetune_trainer.common.places import Places
from finetune_trainer.engine.failures import classify

DUMP_SIGNAL = signal.SIGUSR1
"""Makes a rank print the stacks of all its threads."""
TRACEBACK_CHARS = 2000
"""The end of a traceback says most; the wire keeps no more than 2048 characters of it."""
_PR_SET_PDEATHSIG = 1


class Rank:
    """Life cycle of one rank."""

    def __init__(self, config: RunConfig, places: Places) -> None:
        self.config, self.places = config, places
        self.rank = int(os.environ["RANK"])
        self.channel = Channel(places.channel)
        self.heart = Heart(self.channel, self.rank)
        self.stopping = False
        self.started = False

    def run(self) -> ExitCode:
        from finetune_trainer.engine import context
        from finetune_trainer.engine.agree import Agreement
        from finetune_trainer.engine.assemble import assemble

        self.heart.beat()
        place = context.join(self.config.gpus_per_node)
        agreement = Agreement()
        context.self_test(place)
        self.started = True
        self.heart.beat()
        return assemble(
            self.config, self.places, place, agreement, self.channel, self.heart, lambda: self.stopping
        ).run()


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    faulthandler.register(DUMP_SIGNAL, all_threads=True)
    config, places = load_config(), Places.here()
    rank = Rank(config, places)
    log.bind(attempt=config.attempt, rank=rank.rank)
    signal.signal(signal.SIGTERM, lambda *_: setattr(rank, "stopping", True))
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
    progress = rank.channel.progress()
    if failure.code is ExitCode.OUT_OF_MEMORY and (micro := progress.get("microBatchSize")):
        failure = replace(failure, message=f"{failure.message} (micro-batch {micro})")
    trace = "".join(traceback.format_exception(error))
    rank.channel.put_error(
        RankError(
            rank=rank.rank,
            code=int(failure.code),
            reason=failure.reason,
            message=failure.message,
            traceback=trace[-TRACEBACK_CHARS:],
            at=monotonic(),
            secondary=failure.secondary,
            step=int(progress.get("step", 0)),
        )
    )
    log.error(failure.message, reason=failure.reason, exit_code=int(failure.code))
    if failure.code is ExitCode.FAILED and not failure.secondary:
        sys.stderr.write(trace)
    return failure.code


if __name__ == "__main__":
    main()
