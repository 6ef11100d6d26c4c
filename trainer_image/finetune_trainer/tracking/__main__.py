"""The process that feeds one tracker: `python -m finetune_trainer.tracking mlflow|wandb`, started by the launcher.

A process of its own, because a tracker's client may hang, leak or die, and none of that may touch a training step or
the time between a notice and a checkpoint. It reads the metrics file as it grows. Its end comes over stdin: the
attempt's exit code, or nothing when the launcher is gone; whoever wrote it waits a little, and then no longer.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque

from finetune_api.runconfig import RunConfig
from finetune_trainer.common import log
from finetune_trainer.common.config import load_config
from finetune_trainer.common.places import Places
from finetune_trainer.common.stores import open_run
from finetune_trainer.tracking.points import Point, Tail
from finetune_trainer.tracking.sink import Sink
from finetune_trainer.tracking.start import METRICS_FILE, SECRET_KEYS

EVERY_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
MOST = 20_000
"""Points that wait for a server that does not answer; older ones are given up."""
GONE = 70
"""The exit code of an attempt whose launcher said none."""


class Feeder:
    def __init__(self, sink: Sink, tail: Tail) -> None:
        self._sink, self._tail = sink, tail
        self._waiting: deque[Point] = deque(maxlen=MOST)
        self._opened = False
        self._pause = EVERY_SECONDS
        self._said = ""
        self.code = GONE
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.wait(self._pause):
            self.feed()
        self.feed()
        if self._opened:
            self._try(lambda: self._sink.end(self.code))

    def feed(self) -> None:
        """What is new goes out; what cannot go waits for the next time."""
        self._waiting.extend(self._tail.read())
        if not self._waiting or not (self._opened or self._try(self._open)):
            return
        points = list(self._waiting)
        if self._try(lambda: self._sink.log(points)):
            self._waiting.clear()

    def _open(self) -> None:
        where = self._sink.open()
        self._opened = True
        log.event("tracking", where=where)

    def _try(self, act: object) -> bool:
        assert callable(act)
        try:
            act()
        except Exception as error:  # whatever a client library throws: training is not to hear of it
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            words = clean(f"{type(error).__name__}: {error}")
            if words != self._said:
                log.warning("the tracker does not take the metrics; it is tried again, training goes on", cause=words)
            self._said = words
            return False
        self._pause = EVERY_SECONDS
        return True


def clean(text: str) -> str:
    """Without any secret, and short."""
    for key in SECRET_KEYS:
        if value := os.environ.get(key):
            text = text.replace(value, "***")
    return text.replace("\n", " ")[:500]


def make(kind: str, config: RunConfig, places: Places) -> Sink:
    tracking = config.spec.tracking
    assert tracking is not None
    if kind == "mlflow":
        from finetune_trainer.tracking.mlflow import MLflowSink

        assert tracking.mlflow is not None
        return MLflowSink(config, tracking.mlflow)
    from finetune_trainer.tracking.wandb import WandbSink

    assert tracking.wandb is not None
    return WandbSink(config, tracking.wandb, places.scratch / "tracking", lambda: open_run(config))


def main(kind: str) -> None:
    os.nice(10)
    config, places = load_config(), Places.here()
    log.bind(attempt=config.attempt, tracker=kind)
    try:
        feeder = Feeder(make(kind, config, places), Tail(places.attempt / METRICS_FILE))
    except Exception as error:
        log.warning("no tracking in this attempt", cause=clean(f"{type(error).__name__}: {error}"))
        return

    def listen() -> None:
        line = sys.stdin.readline().strip()
        feeder.code = int(line) if line.isdecimal() else GONE
        feeder.ending.set()

    threading.Thread(target=listen, daemon=True).start()
    feeder.run()


if __name__ == "__main__":
    main(sys.argv[1])
    sys.stdout.flush()
    os._exit(0)
