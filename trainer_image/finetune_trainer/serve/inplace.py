"""A model that is served from the volume it was published on: not copied, but hashed where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import FileRecord
from finetune_artifacts import digest_file
from finetune_artifacts.local import translated
from finetune_artifacts.progress import LineProgress
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError
from finetune_trainer.serve.reasons import Reason

_ADVICE = "restore the file, or publish the model again"
_WEIGHTS = "*.safetensors"


def check_in_place(folder: Path, files: Sequence[FileRecord]) -> int:
    """The bytes that were hashed. Raises RunError (66) for the first file that is not as published, ArtifactError."""
    progress = LineProgress("check model", sum(file.size for file in files), log=log.event)
    with translated(str(folder), "read"):
        _refuse_strangers(folder, files)
        for file in files:
            _check(folder / file.path, file)
            progress(file.size)
    progress.finish()
    return progress.done


def _check(path: Path, file: FileRecord) -> None:
    if not path.is_file():
        raise _wrong(Reason.FILE_MISSING, f"{path} is in the manifest and not on the volume")
    size = path.stat().st_size
    if size != file.size:
        raise _wrong(Reason.FILE_SIZE, f"{path}: expected {file.size} bytes, found {size}")
    found = digest_file(path, "sha256")
    if found != file.digest:
        raise _wrong(Reason.FILE_TAMPERED, f"{path}: expected {file.digest}, found {found}")


def _refuse_strangers(folder: Path, files: Sequence[FileRecord]) -> None:
    """An engine reads every weight file that it finds, and here none may be removed."""
    named = {file.path for file in files}
    for path in sorted(folder.glob(_WEIGHTS)):
        if path.name not in named:
            raise _wrong(Reason.FILE_TAMPERED, f"{path} is on the volume and not in the manifest")


def _wrong(reason: Reason, words: str) -> RunError:
    return RunError(ExitCode.DATA_INVALID, f"{words}; {_ADVICE}", reason=reason)
