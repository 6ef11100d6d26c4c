"""Makes a snapshot count: content first, then the fences, then the manifest, which must not exist yet."""

from __future__ import annotations

import shutil
from pathlib import Path

from finetune_api import layout
from finetune_api.manifests import CheckpointManifest, FileRecord
from finetune_api.reports import CheckpointReport
from finetune_api.runconfig import RunConfig
from finetune_artifacts import AlreadyExists, Progress, Store
from finetune_trainer.checkpoint import files
from finetune_trainer.checkpoint.digest import trainable_digest
from finetune_trainer.checkpoint.fences import fenced, refuse_if_fenced
from finetune_trainer.checkpoint.find import read_manifest
from finetune_trainer.checkpoint.snapshot import Snapshot
from finetune_trainer.common.clock import monotonic, timestamp


def commit(
    config: RunConfig,
    run: Store,
    checkpoints: Store,
    snapshot: Snapshot,
    scratch: Path,
    *,
    progress: Progress | None = None,
) -> CheckpointReport:
    """Writes `scratch/<name>`, uploads it, commits the manifest and removes the local copy.

    Raises RunError (86) when a newer attempt has begun, ArtifactError when storage fails. May be called again
    with the same snapshot after a failure.
    """
    position = snapshot.position
    name = layout.checkpoint_name(position.step, config.attempt)
    refuse_if_fenced(run, config.attempt)
    local = scratch / name
    files.write(snapshot, local)
    try:
        uploaded = checkpoints.upload_tree(local, name, progress=progress)
    finally:
        shutil.rmtree(local, ignore_errors=True)
    digest = trainable_digest(snapshot.trainable)
    manifest = CheckpointManifest(
        job_uid=config.uid,
        spec_digest=config.spec_digest,
        attempt=config.attempt,
        step=position.step,
        total_steps=position.total_steps,
        epoch=position.epoch,
        tokens=position.tokens,
        world_size=position.world_size,
        global_batch_size=position.global_batch_size,
        seed=config.spec.training.seed,
        loss=position.loss,
        trainable_digest=digest,
        files=[FileRecord(path=f.path, size=f.size, digest=f.digest) for f in uploaded],
        seconds=round(monotonic() - snapshot.agreed_at, 3),
        at=timestamp(),
    )
    refuse_if_fenced(run, config.attempt)
    try:
        checkpoints.put_if_absent(f"{name}/{layout.MANIFEST}", manifest.model_dump_json(by_alias=True).encode())
    except AlreadyExists:
        # Ours, if an earlier try was answered too late: this attempt's fence has one holder.
        there = read_manifest(checkpoints, name)
        if there is None or there.files != manifest.files:
            raise fenced(config.attempt, config.attempt) from None
    return CheckpointReport(
        step=position.step,
        attempt=config.attempt,
        uri=checkpoints.uri_of(name),
        bytes=sum(f.size for f in uploaded),
        seconds=round(monotonic() - snapshot.agreed_at, 3),
        stall_seconds=round(snapshot.stall_seconds, 3),
        digest=digest,
        at=manifest.at,
    )
