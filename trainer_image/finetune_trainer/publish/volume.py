"""What the publish pod's containers leave for each other on the shared volume.

prepare      model/ (with served-check.json), served_check.py, served_engine.py, prepared.json, and served.json
             when an earlier try has asked the same
served-check reads model/, writes served.json
finish       reads all of it
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from finetune_api.base import WireModel
from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import CheckpointManifest, MetricValue
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.files import write_atomic
from finetune_trainer.publish import served_check, served_engine


class Prepared(WireModel):
    kind: str
    checkpoint: CheckpointManifest
    metrics: dict[str, MetricValue]
    served_key: str | None = None
    """Under which the engine's answer is kept; None: nobody will ask the engine."""


@dataclass(frozen=True)
class Volume:
    root: Path

    @property
    def model(self) -> Path:
        return self.root / served_check.MODEL

    @property
    def answer(self) -> Path:
        return self.root / served_check.RESULT

    @property
    def prepared(self) -> Path:
        return self.root / "prepared.json"

    def clear(self) -> None:
        """A container that is started again begins anew."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)

    def leave_scripts(self) -> None:
        """For an image in which nothing of ours is installed."""
        for module in (served_check, served_engine):
            source = Path(str(module.__file__))
            shutil.copyfile(source, self.root / source.name)

    def leave(self, prepared: Prepared) -> None:
        write_atomic(self.prepared, prepared.model_dump_json(by_alias=True, exclude_none=True).encode())

    def take(self) -> Prepared:
        """Raises RunError (70) when the container before left nothing."""
        try:
            return Prepared.model_validate_json(self.prepared.read_bytes())
        except (OSError, ValidationError) as error:
            raise RunError(
                ExitCode.FAILED,
                f"{self.prepared} cannot be used ({type(error).__name__}): the publish pod's first container did not "
                "finish; run `finetune-trainer publish` without --part to do everything in one process",
            ) from None
