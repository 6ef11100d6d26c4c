"""What a custom trainer's pod starts from. Index 0 chooses the newest valid checkpoint and puts the fence, before
anything else; the other nodes take the one that the fence names, so that all go on from the same."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from finetune_api import layout
from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import Fence
from finetune_api.runconfig import RunConfig
from finetune_artifacts import FileDigest, NotFound, Progress, Store
from finetune_trainer.checkpoint.fences import fenced, highest_attempt, list_fences, put_fence
from finetune_trainer.checkpoint.find import newest_valid, read_manifest
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.files import read_json, write_json
from finetune_trainer.custom.commit import flatten, patience, wait_for
from finetune_trainer.foreign.exchange import Folders

_MINE = "fence.json"


def settle(config: RunConfig, index: int, run: Store, checkpoints: Store, folders: Folders, progress: Progress) -> str:
    """JSON of {step, attempt, folder}, or null at the run's beginning. The folder is `checkpoint-<step>` among the
    script's own checkpoints, the name that Hugging Face's trainers look for.

    Raises RunError: 86 when a newer attempt (or a twin) has begun, 73 when a checkpoint was promised and none is valid.
    """
    resume = folders.scratch / "resume"
    if index == 0:
        step, attempt = _choose(config, run, checkpoints, folders, resume, progress)
    else:
        what = f"the fence of attempt {config.attempt}"
        fence = wait_for(lambda: _fence(run, config.attempt), patience(config), what)
        step, attempt = fence.resume_step, fence.resume_attempt
    if attempt == 0:
        return json.dumps(None)
    place = folders.checkpoints / f"checkpoint-{step}"
    if not place.exists():  # else an earlier start of this container has put it there
        folder = _take(checkpoints, layout.checkpoint_name(step, attempt), resume, progress)
        flatten(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.replace(place)
    return json.dumps({"step": step, "attempt": attempt, "folder": str(place)})


def _choose(
    config: RunConfig, run: Store, checkpoints: Store, folders: Folders, resume: Path, progress: Progress
) -> tuple[int, int]:
    mine = read_json(folders.channel / _MINE)
    if mine is not None:  # this container was started again within its attempt
        return mine["step"], mine["attempt"]
    highest = highest_attempt(run)
    if highest > config.attempt:
        raise fenced(config.attempt, highest)
    found = newest_valid(checkpoints, list_fences(run), resume, progress=progress)
    if found is None and config.require_checkpoint:
        raise RunError(
            ExitCode.NO_CHECKPOINT,
            f"a checkpoint was committed before, but none below {checkpoints.uri} is valid now; restore one, "
            "or set another spec.runId to begin anew",
        )
    step, attempt = (found.manifest.step, found.manifest.attempt) if found else (0, 0)
    put_fence(run, config.attempt, resume_step=step, resume_attempt=attempt)
    write_json(folders.channel / _MINE, {"step": step, "attempt": attempt})
    log.event("fence put", resume_step=step, resume_attempt=attempt)
    return step, attempt


def _take(checkpoints: Store, name: str, resume: Path, progress: Progress) -> Path:
    manifest = read_manifest(checkpoints, name)
    if manifest is None:
        raise RunError(ExitCode.STORAGE, f"{checkpoints.uri_of(name)} was there a moment ago and is gone")
    # What newest_valid has just brought is only compared.
    files = [FileDigest(f.path, f.size, f.digest) for f in manifest.files]
    checkpoints.download_tree(name, resume / name, files=files, progress=progress)
    return resume / name


def _fence(run: Store, attempt: int) -> Fence | None:
    try:
        return Fence.model_validate_json(run.get_bytes(layout.fence_path(attempt)))
    except NotFound:
        return None
    except ValidationError as error:
        raise RunError(ExitCode.STORAGE, f"{layout.fence_path(attempt)} is not a fence: {error}") from None
