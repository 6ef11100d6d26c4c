"""Chooses the checkpoint to resume from: newest first, the first that is whole.

A truncated file or a flipped bit must never be resumed from, and must not stop the run either: such a checkpoint is
quarantined (a note beside it, for people) and the next older one is tried.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from finetune_api import layout
from finetune_api.manifests import CheckpointManifest, Fence
from finetune_artifacts import ArtifactError, DigestMismatch, FileDigest, InvalidUri, NotFound, Progress, Store
from finetune_trainer.checkpoint.fences import counts
from finetune_trainer.common import log
from finetune_trainer.common.clock import timestamp

QUARANTINED = "QUARANTINED.json"


@dataclass(frozen=True)
class Candidate:
    step: int
    attempt: int

    @property
    def name(self) -> str:
        return layout.checkpoint_name(self.step, self.attempt)


@dataclass(frozen=True)
class Found:
    manifest: CheckpointManifest
    folder: Path
    """Local copy, digests verified."""


def candidates(checkpoints: Store) -> list[Candidate]:
    """Every checkpoint folder, newest first; a higher attempt is newer at the same step."""
    parsed = (layout.parse_checkpoint_name(name) for name in checkpoints.list_dirs())
    return sorted((Candidate(*pair) for pair in parsed if pair), key=lambda c: (c.step, c.attempt), reverse=True)


def read_manifest(checkpoints: Store, name: str) -> CheckpointManifest | None:
    """None when nothing was committed there. Raises ValueError when the manifest is damaged."""
    try:
        content = checkpoints.get_bytes(f"{name}/{layout.MANIFEST}")
    except NotFound:
        return None
    try:
        manifest = CheckpointManifest.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(f"the manifest is not readable: {error.errors()[0]['msg']}") from None
    for file in manifest.files:
        try:
            intact = checkpoints.checked(file.path) == file.path
        except InvalidUri:
            intact = False
        if not intact:
            raise ValueError(f"the manifest is damaged: {file.path!r:.120} is not a path this trainer writes")
    return manifest


def committed(checkpoints: Store, fences: list[Fence]) -> list[Candidate]:
    """Checkpoints with a manifest that still count, newest first. Contents are not verified."""
    return [
        c
        for c in candidates(checkpoints)
        if counts(c.step, c.attempt, fences)
        and checkpoints.exists(f"{c.name}/{layout.MANIFEST}")
        and not checkpoints.exists(f"{c.name}/{QUARANTINED}")
    ]


def by_held_out_loss(checkpoints: Store, valid: list[Candidate]) -> list[Candidate]:
    """Those of `valid` (newest first) whose loss on held-out data is known, the lowest first; of equals the newest."""
    known = []
    for candidate in valid:
        try:
            manifest = read_manifest(checkpoints, candidate.name)
        except ValueError:
            continue
        if manifest is not None and manifest.eval_loss is not None:
            known.append((manifest.eval_loss, candidate))
    return [candidate for _, candidate in sorted(known, key=lambda pair: pair[0])]


def newest_valid(
    checkpoints: Store, fences: list[Fence], folder: Path, *, progress: Progress | None = None
) -> Found | None:
    """Downloads and verifies, newest first, and returns the first whole checkpoint, or None.

    Raises ArtifactError when storage fails: then nothing is known, which is not the same as nothing there.
    """
    return first_valid(checkpoints, candidates(checkpoints), fences, folder, progress=progress)


def first_valid(
    checkpoints: Store,
    order: Sequence[Candidate],
    fences: list[Fence],
    folder: Path,
    *,
    progress: Progress | None = None,
) -> Found | None:
    """Downloads and verifies in this order, and returns the first whole checkpoint, or None. What is not whole is
    quarantined.

    Raises ArtifactError when storage fails: then nothing is known, which is not the same as nothing there.
    """
    for candidate in order:
        if not counts(candidate.step, candidate.attempt, fences):
            log.event("checkpoint ignored: a later attempt resumed from before it", checkpoint=candidate.name)
            continue
        if checkpoints.exists(f"{candidate.name}/{QUARANTINED}"):
            continue
        try:
            manifest = read_manifest(checkpoints, candidate.name)
            if manifest is None:
                log.event("checkpoint ignored: never committed", checkpoint=candidate.name)
                continue
            if (manifest.step, manifest.attempt) != (candidate.step, candidate.attempt):
                raise ValueError(f"the manifest is of step {manifest.step} of attempt {manifest.attempt}")
            local = folder / candidate.name
            checkpoints.download_tree(
                candidate.name,
                local,
                files=[FileDigest(f.path, f.size, f.digest) for f in manifest.files],
                progress=progress,
            )
        except (ValueError, NotFound, DigestMismatch) as error:
            quarantine(checkpoints, candidate, str(error))
            continue
        return Found(manifest, local)
    return None


def quarantine(checkpoints: Store, candidate: Candidate, reason: str) -> None:
    log.warning("checkpoint quarantined", checkpoint=candidate.name, reason=reason)
    note = json.dumps({"reason": reason, "at": timestamp()}).encode()
    try:
        checkpoints.put_bytes(f"{candidate.name}/{QUARANTINED}", note)
    except ArtifactError as error:
        log.warning("the quarantine note could not be stored", checkpoint=candidate.name, cause=str(error))
