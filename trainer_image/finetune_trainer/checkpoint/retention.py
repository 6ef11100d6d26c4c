"""Which checkpoints may go. Nothing is deleted before a newer one was committed, and never fewer than two are kept.

What a fence has invalidated, and what was never committed and lies behind the newest commit, goes as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from finetune_api.manifests import Fence
from finetune_artifacts import ArtifactError, Store
from finetune_trainer.checkpoint.find import Candidate, candidates, committed
from finetune_trainer.common import log

MINIMUM = 2


def to_delete(everything: Sequence[Candidate], valid: Sequence[Candidate], *, keep: int) -> list[Candidate]:
    """`everything` and `valid` (committed and counting) are newest first. Oldest first in the answer."""
    kept = set(valid[: max(keep, MINIMUM)])
    if not valid:
        return []
    newest = valid[0]
    return [c for c in reversed(everything) if c not in kept and (c.step, c.attempt) < (newest.step, newest.attempt)]


def apply_retention(checkpoints: Store, fences: list[Fence], *, keep: int) -> list[str]:
    """Deletes and returns the names. A failure is logged: an extra checkpoint harms nobody."""
    deleted = []
    try:
        for candidate in to_delete(candidates(checkpoints), committed(checkpoints, fences), keep=keep):
            checkpoints.delete(f"{candidate.name}/MANIFEST.json")
            checkpoints.delete_tree(candidate.name)
            deleted.append(candidate.name)
    except ArtifactError as error:
        log.warning("old checkpoints could not be deleted", cause=str(error))
    return deleted
