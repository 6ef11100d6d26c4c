"""Reads what a pod is told and the places around it; a bad file gets words, not a stack trace."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from finetune_api import runconfig as rc
from finetune_api.base import WireModel
from finetune_api.exitcodes import ExitCode
from finetune_api.runconfig import RunConfig
from finetune_trainer.common.errors import RunError

Told = TypeVar("Told", bound=WireModel)


def _dir(env: str, default: str) -> Path:
    return Path(os.environ.get(env) or default)


def config_path() -> Path:
    return _dir(rc.CONFIG_ENV, rc.CONFIG_PATH)


def scratch_dir() -> Path:
    return _dir(rc.SCRATCH_DIR_ENV, rc.SCRATCH_DIR)


def secrets_dir() -> Path:
    return _dir(rc.SECRETS_DIR_ENV, rc.SECRETS_DIR)


def pvc_dir() -> Path:
    return _dir(rc.PVC_DIR_ENV, rc.PVC_DIR)


def pod_index() -> int:
    """This pod's node rank."""
    text = os.environ.get(rc.INDEX_ENV, "0")
    if not text.isdecimal():
        raise RunError(ExitCode.INVALID_SPEC, f"{rc.INDEX_ENV}={text!r}: expected a number, set by the Job controller")
    return int(text)


def run_token() -> str | None:
    """The run's token, or None when none was mounted (a local run): then the guarded endpoints refuse everybody."""
    path = _dir(rc.TOKEN_ENV_PATH, rc.TOKEN_PATH)
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def load_config(path: Path | None = None) -> RunConfig:
    """Raises RunError (64) naming the file, the field and what was expected."""
    return load(RunConfig, "run config", path)


def load(kind: type[Told], name: str, path: Path | None = None) -> Told:
    """The document that this pod was given. Raises RunError (64) naming the file, the field and what was expected."""
    source = path or config_path()
    try:
        document = json.loads(source.read_text())
    except OSError as error:
        raise RunError(
            ExitCode.INVALID_SPEC,
            f"the {name} {source} cannot be read ({error.strerror}); pass --config or set {rc.CONFIG_ENV}",
        ) from None
    except ValueError as error:
        raise RunError(ExitCode.INVALID_SPEC, f"the {name} {source} is not JSON: {error}") from None
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RunError(
            ExitCode.INVALID_SPEC,
            f"the {name} {source}: {field}: {first['msg']} (got {first['input']!r:.100})",
        ) from None
