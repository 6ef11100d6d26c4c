"""A run at Weights & Biases under an id of the run's own, so that every attempt goes on with it.

Its own step must only grow, and a resumed attempt may repeat steps: the optimizer step is logged as a value instead,
and named as the axis of all others. Offline files are stored with the attempt, for `wandb sync`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from finetune_api import layout
from finetune_api.runconfig import RunConfig
from finetune_api.tracking import Wandb, WandbMode
from finetune_artifacts import Store
from finetune_trainer.common.clock import monotonic
from finetune_trainer.tracking.points import Point
from finetune_trainer.tracking.sink import name_of, parameters

STORE_EVERY_SECONDS = 60.0


class WandbSink:
    def __init__(self, config: RunConfig, wanted: Wandb, folder: Path, run_store: Callable[[], Store]) -> None:
        """`run_store` is asked for offline only."""
        self._config, self._wanted, self._folder, self._open_store = config, wanted, folder, run_store
        self._offline = wanted.mode is WandbMode.OFFLINE
        self._run: Any = None
        self._stored_at = 0.0

    def open(self) -> str:
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)
        server = {"base_url": self._wanted.uri} if self._wanted.uri else {}
        self._run = wandb.init(
            project=self._wanted.project,
            entity=self._wanted.entity,
            id=name_of(self._config),
            name=self._config.name,
            group=self._config.namespace,
            resume="allow",
            mode="offline" if self._offline else "online",
            dir=str(self._folder),
            config=dict(parameters(self._config)),
            settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, **server),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        return f"attempts/{self._config.attempt}/wandb" if self._offline else str(self._run.url)

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log({"step": point.step, **point.values})
        if self._offline and monotonic() - self._stored_at > STORE_EVERY_SECONDS:
            self._store()

    def end(self, code: int) -> None:
        self._run.finish(exit_code=code)
        if self._offline:
            self._store()

    def _store(self) -> None:
        store, target = self._open_store(), f"{layout.attempt_dir(self._config.attempt)}/wandb"
        root = self._folder / "wandb"
        for path in sorted(p for p in root.glob("offline-run-*/**/*") if p.is_file() and not p.is_symlink()):
            if path.suffix == ".wandb" or path.parent.name == "files":
                store.put_bytes(f"{target}/{path.relative_to(root).as_posix()}", path.read_bytes())
        self._stored_at = monotonic()
