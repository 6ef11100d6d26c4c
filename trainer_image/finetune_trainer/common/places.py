"""Folders on the scratch volume, known to the launcher and to its ranks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune_trainer.common.config import scratch_dir


@dataclass(frozen=True)
class Places:
    scratch: Path

    @classmethod
    def here(cls) -> Places:
        return cls(scratch_dir())

    @property
    def model(self) -> Path:
        return self.scratch / "model"

    @property
    def teacher(self) -> Path:
        return self.scratch / "teacher"

    @property
    def data(self) -> Path:
        return self.scratch / "data"

    @property
    def resume(self) -> Path:
        return self.scratch / "resume"

    @property
    def saving(self) -> Path:
        return self.scratch / "saving"

    @property
    def attempt(self) -> Path:
        return self.scratch / "attempt"

    @property
    def channel(self) -> Path:
        return self.scratch / "channel"

    @property
    def log(self) -> Path:
        return self.scratch / "trainer.log"

    @property
    def tmp(self) -> Path:
        return self.scratch / "tmp"
