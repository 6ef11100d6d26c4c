"""Makes the phases of a tiny run long enough to be met, and says when one begins; only in processes that `warm` forks.

FINETUNE_TEST_SLOW is JSON: phase -> seconds, or phase -> [call, seconds] to slow only from that call on. The phases:
fetch (launcher), import, load, micro (each micro-batch), evaluate (each batch), save (each upload). Each time one
begins its name is appended to `<scratch>/phases`; `born` comes first, when the launcher hears signals.

FINETUNE_TEST_FAULTS is JSON as well, by kind: `nan` and `memory` list the steps whose loss is not a number or whose
memory runs out; `rank` slows only that rank's micro-batches, by `seconds`; `leave` is how many seconds after the others
the launchers but the first notice that all have finished.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune_api import runconfig as rc
from finetune_trainer.common.config import pod_index

SLOW_ENV = "FINETUNE_TEST_SLOW"
FAULTS_ENV = "FINETUNE_TEST_FAULTS"
LAUNCHER = {"fetch": ("finetune_trainer.launcher.main", "fetch")}
RANK = {
    "load": ("finetune_trainer.engine.model", "build"),
    "micro": ("finetune_trainer.engine.step", "Stepper._forward"),
    "evaluate": ("finetune_trainer.engine.evaluate", "_forward"),
    "save": ("finetune_artifacts.base", "Store.upload_tree"),
}


class Phase:
    def __init__(self, name: str, wanted: float | list[float]) -> None:
        self._name, self._calls = name, 0
        self._first, self._seconds = (int(wanted[0]), wanted[1]) if isinstance(wanted, list) else (1, wanted)
        self._marks = Path(os.environ[rc.SCRATCH_DIR_ENV]) / "phases"

    def enter(self) -> None:
        self._calls += 1
        with self._marks.open("a") as marks:
            marks.write(f"{self._name}\n")
        if self._calls >= self._first:
            time.sleep(self._seconds)


def _wrap(phase: Phase, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def slowed(*arguments: Any, **named: Any) -> Any:
        phase.enter()
        return function(*arguments, **named)

    return slowed


def install(*, rank: bool) -> None:
    wanted = json.loads(os.environ.get(SLOW_ENV, "{}"))
    faults = json.loads(os.environ.get(FAULTS_ENV, "{}"))
    if not rank:
        Phase("born", 0.0).enter()
        if "leave" in faults and pod_index():
            _leave_late(faults["leave"])
    if rank and "import" in wanted:
        Phase("import", wanted["import"]).enter()
    for name, (module, path) in (RANK if rank else LAUNCHER).items():
        if name in wanted:
            *owners, last = path.split(".")
            owner: Any = importlib.import_module(module)
            for part in owners:
                owner = getattr(owner, part)
            setattr(owner, last, _wrap(Phase(name, wanted[name]), getattr(owner, last)))
    if rank:
        _faults(faults)


def _leave_late(seconds: float) -> None:
    from torch.distributed.elastic.utils import store as module

    check_in = module._barrier_nonblocking

    def late(*arguments: Any, **named: Any) -> Any:
        key = check_in(*arguments, **named)
        time.sleep(seconds)
        return key

    module._barrier_nonblocking = late


def _faults(wanted: dict[str, Any]) -> None:
    """At the steps that are named, counted over the whole run and not over one attempt."""
    if not wanted:
        return
    from finetune_trainer.engine import step as module

    current = [0]
    call, forward = module.Stepper.__call__, module.Stepper._forward

    def stepping(stepper: Any, step: int) -> Any:
        current[0] = step + 1
        return call(stepper, step)

    def faulty(*arguments: Any, **named: Any) -> Any:
        if wanted.get("rank") == int(os.environ["RANK"]):
            time.sleep(wanted["seconds"])
        if current[0] in wanted.get("memory", []):
            raise MemoryError("Unable to allocate 1.00 TiB for an array")
        found = forward(*arguments, **named)
        return replace(found, loss=found.loss * float("nan")) if current[0] in wanted.get("nan", []) else found

    module.Stepper.__call__ = stepping  # type: ignore[method-assign]
    module.Stepper._forward = faulty  # type: ignore[method-assign]
