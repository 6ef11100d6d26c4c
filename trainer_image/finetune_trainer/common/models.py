"""Brings the base model, and one to learn from, to the scratch volume; refuses one that preflight did not see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from finetune_api.exitcodes import ExitCode
from finetune_api.objective import judge_of, taught_from
from finetune_api.runconfig import RunConfig
from finetune_api.storage import Stored
from finetune_artifacts import fingerprint
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.stores import open_for

Heartbeat = Callable[[int], None]
"""Called with the bytes moved since the last call."""


def fetch_model(config: RunConfig, folder: Path, heartbeat: Heartbeat) -> Path:
    """Downloads `spec.model` to `folder`; what an interrupted download left there is continued."""
    return _fetch("model", config, config.spec.model, config.model_revision, folder, heartbeat)


def fetch_teacher(config: RunConfig, folder: Path, heartbeat: Heartbeat) -> Path | None:
    """As `fetch_model`, where the objective has a teacher, its answers or a reward model."""
    taught = taught_from(config.spec)
    if taught is None:
        return None
    what = "reward model" if judge_of(config.spec) else "teacher"
    return _fetch(what, config, taught[1], config.teacher_revision, folder, heartbeat)


def _fetch(
    what: str, config: RunConfig, model: Stored, revision: str | None, folder: Path, heartbeat: Heartbeat
) -> Path:
    store = open_for(config, model.uri, model.secret_ref.name if model.secret_ref else None)
    entries = list(store.list())
    code = what.title().replace(" ", "")
    if not entries:
        raise RunError(
            ExitCode.DATA_INVALID,
            f"nothing is stored at {model.uri} any more; put the {what} back",
            reason=f"{code}Missing",
        )
    found = fingerprint(entries)
    if revision is not None and found != revision:
        raise RunError(
            ExitCode.DATA_INVALID,
            f"the {what} at {model.uri} changed since preflight (revision {revision}, now {found}); "
            f"put the files back, or give the changed {what} a path of its own",
            reason=f"{code}Changed",
        )
    folder.mkdir(parents=True, exist_ok=True)
    files = store.download_tree("", folder, progress=heartbeat)
    log.event(f"{what} fetched", uri=model.uri, files=len(files), bytes=sum(file.size for file in files))
    return folder
