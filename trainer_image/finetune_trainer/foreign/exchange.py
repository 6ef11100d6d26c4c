"""What the three programs of a custom trainer's pod share: folders and small files on the scratch volume.

The script and its launcher run in the user's image and hold no credentials; the storage container runs in ours, holds
them, and runs nothing of the user's. They meet in these files only (besides those of `common.channel`):

    storage.json          storage: model, data and checkpoint are here; {"resume": {step, attempt, folder} | null}
    storage-beat          storage: touched while bytes move
    storage-error.json    storage: it cannot go on; {code, reason, message}
    saved-<step>.json     script: a checkpoint is whole in saving/<step> on this node
    committed.json        storage: the newest checkpoint that counts
    finished.json         launcher: the script has ended well; its output is to be kept
    kept.json             storage: the output is in the run directory
    words.json            launcher: last words, for the run directory
    words-kept            storage: they are there
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_trainer.common.channel import Channel
from finetune_trainer.common.files import read_json, write_atomic, write_json

CHANNEL_ENV = "FINETUNE_CHANNEL_DIR"
MODEL_ENV = "FINETUNE_MODEL_DIR"
DATA_ENV = "FINETUNE_DATA_DIR"
CHECKPOINT_ENV = "FINETUNE_CHECKPOINT_DIR"
OUTPUT_ENV = "FINETUNE_OUTPUT_DIR"
RESUME_ENV = "FINETUNE_RESUME_FROM"
"""The validated checkpoint to go on from; empty at the run's beginning."""
_SAVED = "saved-"


@dataclass(frozen=True)
class Folders:
    scratch: Path

    @property
    def model(self) -> Path:
        return self.scratch / "model"

    @property
    def data(self) -> Path:
        """`train-0/…`, `validation-0/…`: one folder a source, in the order of the spec."""
        return self.scratch / "data"

    @property
    def checkpoints(self) -> Path:
        """The script's own; the one to resume from is there before it starts."""
        return self.scratch / "checkpoints"

    @property
    def saving(self) -> Path:
        """What the storage container has still to commit, by step."""
        return self.scratch / "saving"

    @property
    def output(self) -> Path:
        return self.scratch / "output"

    @property
    def channel(self) -> Path:
        return self.scratch / "channel"

    @property
    def tmp(self) -> Path:
        return self.scratch / "tmp"

    @property
    def log(self) -> Path:
        return self.scratch / "trainer.log"


class Exchange(Channel):
    # Written by the storage container.

    def put_ready(self, document: dict[str, Any]) -> None:
        write_json(self.folder / "storage.json", document)

    def storage_beat(self) -> None:
        write_atomic(self.folder / "storage-beat", b"")

    def put_problem(self, code: int, reason: str, message: str) -> None:
        write_json(self.folder / "storage-error.json", {"code": code, "reason": reason, "message": message})

    def put_committed(self, report: dict[str, Any]) -> None:
        write_json(self.folder / "committed.json", report)

    def put_kept(self) -> None:
        write_json(self.folder / "kept.json", True)

    def put_words_kept(self) -> None:
        write_atomic(self.folder / "words-kept", b"")

    # Written by the script.

    def put_saved(self, step: int, facts: dict[str, Any]) -> None:
        write_json(self.folder / f"{_SAVED}{step}.json", {**facts, "step": step})

    # Written by the launcher.

    def put_finished(self, facts: dict[str, Any]) -> None:
        write_json(self.folder / "finished.json", facts)

    def put_words(self, words: dict[str, Any]) -> None:
        write_json(self.folder / "words.json", words)

    # Read.

    def ready(self) -> dict[str, Any] | None:
        return read_json(self.folder / "storage.json")

    def storage_sign(self) -> int:
        """Changes while bytes move."""
        try:
            return (self.folder / "storage-beat").stat().st_mtime_ns
        except OSError:
            return 0

    def problem(self) -> dict[str, Any] | None:
        return read_json(self.folder / "storage-error.json")

    def committed(self) -> dict[str, Any] | None:
        return read_json(self.folder / "committed.json")

    def saved(self) -> list[dict[str, Any]]:
        """Oldest first."""
        found = [read_json(path) for path in self.folder.glob(f"{_SAVED}*.json")]
        return sorted((document for document in found if document), key=lambda document: int(document["step"]))

    def forget_saved(self, step: int) -> None:
        (self.folder / f"{_SAVED}{step}.json").unlink(missing_ok=True)

    def finished(self) -> dict[str, Any] | None:
        return read_json(self.folder / "finished.json")

    def kept(self) -> bool:
        return (self.folder / "kept.json").exists()

    def words(self) -> dict[str, Any] | None:
        return read_json(self.folder / "words.json")

    def words_kept(self) -> bool:
        return (self.folder / "words-kept").exists()
