"""Fences: how a newer attempt makes an older one harmless.

An attempt's first act is to put `fence/<n>`. Whoever commits lists the fences first and refuses when a higher one
exists; whoever reads ignores what attempt m wrote beyond the step that the next fence says it resumed from. Only
because of this may attempt n+1 start while pods of n still run on a node nobody can reach.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from finetune_api import layout
from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import Fence
from finetune_artifacts import AlreadyExists, Store
from finetune_trainer.common.clock import timestamp
from finetune_trainer.common.errors import RunError


def fenced(attempt: int, by: int) -> RunError:
    return RunError(
        ExitCode.STOPPED_UNSAVED,
        f"fenced by attempt {by}: attempt {attempt} may not commit any more",
        reason="Fenced",
    )


def list_fences(run: Store) -> list[Fence]:
    """All fences, by attempt. A file that is not a fence is an error: guessing here could lose work."""
    found = []
    for entry in run.list(layout.FENCE_DIR):
        try:
            found.append(Fence.model_validate_json(run.get_bytes(entry.path)))
        except ValidationError as error:
            raise RunError(
                ExitCode.STORAGE, f"{run.uri_of(entry.path)} is not a fence: {error.errors()[0]['msg']}"
            ) from None
    return sorted(found, key=lambda fence: fence.attempt)


def highest_attempt(run: Store) -> int:
    """From the names alone; 0 when there is no fence."""
    names = (entry.path.rsplit("/", 1)[-1] for entry in run.list(layout.FENCE_DIR))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def refuse_if_fenced(run: Store, attempt: int) -> None:
    """Raises RunError (86) when an attempt above ours has begun."""
    highest = highest_attempt(run)
    if highest > attempt:
        raise fenced(attempt, highest)


def put_fence(run: Store, attempt: int, *, resume_step: int, resume_attempt: int) -> Fence:
    """Raises RunError (86) when this attempt has begun before, elsewhere."""
    fence = Fence(attempt=attempt, resume_step=resume_step, resume_attempt=resume_attempt, at=timestamp())
    try:
        run.put_if_absent(layout.fence_path(attempt), fence.model_dump_json(by_alias=True).encode())
    except AlreadyExists:
        raise RunError(
            ExitCode.STOPPED_UNSAVED,
            f"attempt {attempt} has already begun elsewhere; this pod is a duplicate and stops",
            reason="Fenced",
        ) from None
    return fence


def counts(step: int, attempt: int, fences: Sequence[Fence]) -> bool:
    """Whether attempt's checkpoint of `step` still counts: no later attempt resumed from before it."""
    return all(step <= fence.resume_step for fence in fences if fence.attempt > attempt)
