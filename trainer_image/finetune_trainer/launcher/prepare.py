"""What happens before the ranks start. Index 0 first settles what the attempt stands on: the fence comes before
everything else, so that from here on an older attempt can commit nothing."""

from __future__ import annotations

from finetune_api.exitcodes import ExitCode
from finetune_api.runconfig import RunConfig
from finetune_trainer.checkpoint.fences import fenced, highest_attempt, list_fences, put_fence
from finetune_trainer.checkpoint.find import newest_valid
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.models import fetch_model, fetch_teacher
from finetune_trainer.common.places import Places
from finetune_trainer.common.stores import open_checkpoints, open_run
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.launcher.board import Board


def settle(config: RunConfig, board: Board, places: Places) -> None:
    """Chooses the checkpoint to resume from and puts the fence. Raises RunError 86 when a newer attempt (or a twin)
    has begun, 73 when a checkpoint was required and none is valid."""
    run, checkpoints = open_run(config), open_checkpoints(config)
    highest = highest_attempt(run)
    if highest > config.attempt:
        raise fenced(config.attempt, highest)
    found = newest_valid(checkpoints, list_fences(run), places.resume, progress=board.beat)
    if found is None and config.require_checkpoint:
        raise RunError(
            ExitCode.NO_CHECKPOINT,
            f"a checkpoint was committed before, but none below {checkpoints.uri} is valid now; restore one, "
            "or set another spec.runId to begin anew",
        )
    step, attempt = (found.manifest.step, found.manifest.attempt) if found else (0, 0)
    put_fence(run, config.attempt, resume_step=step, resume_attempt=attempt)
    log.event("fence put", resume_step=step, resume_attempt=attempt)
    if found:
        board.channel.put_resume({"step": step, "attempt": attempt, "folder": str(found.folder)})


def fetch(config: RunConfig, board: Board, places: Places) -> None:
    fetch_model(config, places.model, board.beat)
    board.beat()
    fetch_teacher(config, places.teacher, board.beat)
    board.beat()
    fetch_data(config, places.data, board.beat)
    board.beat()
