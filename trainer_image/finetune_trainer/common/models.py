"""Brings the base model to the scratch volume, and refuses one that is not the model preflight saw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from finetune_api.exitcodes import ExitCode
from finetune_api.runconfig import RunConfig
from finetune_artifacts import fingerprint
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.stores import open_for

Heartbeat = Callable[[int], None]
"""Called with the bytes moved since the last call."""


def fetch_model(config: RunConfig, folder: Path, heartbeat: Heartbeat) -> Path:
    """Downloads `spec.model` to `folder`; what an interrupted download left there is continued."""
    model = config.spec.model
    store = open_for(config, model.uri, model.secret_ref.name if model.secret_ref else None)
    entries = list(store.list())
    if not entries:
        raise RunError(
            ExitCode.DATA_INVALID,
            f"nothing is stored at {model.uri} any more; put the model back",
            reason="ModelMissing",
        )
    found = fingerprint(entries)
    if config.model_revision is not None and found != config.model_revision:
        raise RunError(
            ExitCode.DATA_INVALID,
            f"the model at {model.uri} changed since preflight (revision {config.model_revision}, now {found}); "
            "put the files back, or give the changed model a path of its own",
            reason="ModelChanged",
        )
    folder.mkdir(parents=True, exist_ok=True)
    files = store.download_tree("", folder, progress=heartbeat)
    log.event("model fetched", uri=model.uri, files=len(files), bytes=sum(file.size for file in files))
    return folder
