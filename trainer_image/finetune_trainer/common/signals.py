"""SIGTERM from the first moment on.

A container's first process does not even get a signal it has no handler for: a stop that comes while Python imports
would be lost, and the pod killed at the end of its grace period with nothing said. So the entry point listens before it
imports anything, and whoever handles stops later asks what was heard meanwhile.
"""

import os
import signal
import sys
from pathlib import Path

_SIGTERMED = 143
_heard: list[int] = []


def is_entry_point() -> bool:
    """Whether this process was started as the trainer, and not as a program that imports it."""
    started = Path(sys.argv[0])
    return started.name == "finetune-trainer" or started.parts[-2:] == ("finetune_trainer", "__main__.py")


def listen() -> None:
    signal.signal(signal.SIGTERM, lambda number, _frame: _heard.append(number))


def heard() -> str | None:
    """The name of the first signal that nobody has handled yet."""
    return signal.Signals(_heard[0]).name if _heard else None


def end_at_once() -> None:
    """For work that may be killed at any moment and has nothing to save."""
    if _heard:
        os._exit(_SIGTERMED)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(_SIGTERMED))
