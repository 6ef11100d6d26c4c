"""Which checkpoints may go. Nothing is deleted before a newer one was committed, and never fewer than two are kept.

What a fence has invalidated, and what was never committed and lies behind the newest commit, goes as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from finetune_api.manifests import Fence
from finetune_artifacts import ArtifactError, Store
from finetune_trainer.checkpoint.find import Candidate, by_held_out_loss, candidates, committed
from finetune_trainer.common import log

MINIMUM = 2


def to_delete(
    everything: Sequence[Candidate], valid: Sequence[Candidate], *, keep: int, best: Sequence[Candidate] = ()
) -> list[Candidate]:
    """`everything` and `valid` (committed and counting) are newest first; `best` are kept besides. Oldest first in the
    answer."""
    kept = {*valid[: max(keep, MINIMUM)], *best}
    if not valid:
        return []
    newest = valid[0]
    return [c for c in reversed(everything) if c not in kept and (c.step, c.attempt) < (newest.step, newest.attempt)]


def apply_retention(checkpoints: Store, fences: list[Fence], *, keep: int, best: int = 0) -> list[str]:
    """Deletes and returns the names. A failure is logged: an extra checkpoint harms nobody."""
    deleted = []
    try:
        valid = committed(checkpoints, fences)
        lowest = by_held_out_loss(checkpoints, valid)[:best] if best else []
        for candidate in to_delete(candidates(checkpoints), valid, keep=keep, best=lowest):
            checkpoints.delete(f"{candidate.name}/MANIFEST.json")
            checkpoints.delete_tree(candidate.name)
            deleted.append(candidate.name)
    except ArtifactError as error:
        log.warning("old checkpoints could not be deleted", cause=str(error))
    return deleted
