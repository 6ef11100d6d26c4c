"""What a tracker is to the process that feeds it, and what every tracker says of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from finetune_api.exitcodes import ExitCode
from finetune_api.runconfig import RunConfig
from finetune_trainer.tracking.points import Point

LONGEST = 500
"""Characters of a parameter: what every server takes."""


class Sink(Protocol):
    """Any call may raise whatever its library raises, and may take long."""

    def open(self) -> str:
        """Begins the run, or goes on with it; where it can be looked at."""

    def log(self, points: Sequence[Point]) -> None: ...

    def end(self, code: int) -> None:
        """`code`: the attempt's exit code."""


def name_of(config: RunConfig) -> str:
    """The same for every attempt of a run, and for no other run."""
    return f"{config.name}-{config.run_key}"


def parameters(config: RunConfig) -> dict[str, str]:
    """What was set of that which decides what is learned: `training.learningRate` and so on. No Secret is named."""
    wire = config.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    wanted = {block: wire[block] for block in ("model", "method", "objective", "training", "data") if block in wire}
    return {name: value[:LONGEST] for name, value in _flat(wanted, "").items()}


def _flat(value: Any, path: str) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {
            name: text
            for key, below in value.items()
            if key != "secretRef"
            for name, text in _flat(below, f"{path}.{key}" if path else str(key)).items()
        }
    if isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        return {n: t for i, entry in enumerate(value) for n, t in _flat(entry, f"{path}.{i}").items()}
    return {path: ",".join(map(str, value)) if isinstance(value, list) else str(value)}


def stopped(code: int) -> bool:
    """The run goes on in another attempt."""
    return code in (ExitCode.STOPPED, ExitCode.STOPPED_UNSAVED)
