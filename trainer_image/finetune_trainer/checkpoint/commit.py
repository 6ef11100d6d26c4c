"""Makes a snapshot count: content first, then the fences, then the manifest, which must not exist yet.

Each rank that holds a part of it stores its own files; rank 0 commits once all have. Every rank leaves with the same
answer, be it the report or the error.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash

from finetune_api import layout
from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import CheckpointManifest, FileRecord
from finetune_api.reports import CheckpointReport
from finetune_api.runconfig import RunConfig
from finetune_artifacts import ArtifactError, Progress, Store
from finetune_trainer.checkpoint import files
from finetune_trainer.checkpoint.digest import trainable_digest
from finetune_trainer.checkpoint.fences import refuse_if_fenced
from finetune_trainer.checkpoint.finite import refuse_non_finite
from finetune_trainer.checkpoint.manifest import put_manifest
from finetune_trainer.checkpoint.snapshot import Snapshot
from finetune_trainer.checkpoint.together import Together
from finetune_trainer.common.clock import monotonic, timestamp
from finetune_trainer.common.errors import RunError

Json = dict[str, Any]


def commit(
    config: RunConfig,
    run: Store,
    checkpoints: Store,
    snapshot: Snapshot,
    scratch: Path,
    *,
    together: Together | None = None,
    progress: Progress | None = None,
) -> CheckpointReport:
    """Writes `scratch/<name>`, uploads it, commits the manifest and removes the local copy.

    Raises RunError (86) when a newer attempt has begun, ArtifactError when storage fails; on every rank that saves
    together alike. May be called again with the same snapshot after a failure.
    """
    together = together or Together(alone=True)
    name = layout.checkpoint_name(snapshot.position.step, config.attempt)

    def store() -> Json:
        if together.rank == 0:
            refuse_if_fenced(run, config.attempt)
        refuse_non_finite(snapshot)
        local = scratch / name
        try:
            files.write(snapshot, local, rank=together.rank, ranks=together.size)
            uploaded = checkpoints.upload_tree(local, name, progress=progress)
        finally:
            shutil.rmtree(local, ignore_errors=True)
        return {
            "files": [{"path": f.path, "size": f.size, "digest": f.digest} for f in uploaded],
            "digest": trainable_digest(snapshot.trainable),
        }

    stored = _agreed(together.all(_outcome(store)), checkpoints, name)

    def manifest() -> Json:
        return _commit(config, run, checkpoints, snapshot, name, stored).model_dump(mode="json", by_alias=True)

    answer = together.all(_outcome(manifest) if together.rank == 0 else {})[:1]
    return CheckpointReport.model_validate(_agreed(answer, checkpoints, name)[0])


def _outcome(act: Callable[[], Json]) -> Json:
    """JSON of what `act` gives, or of the error that may be expected of it."""
    try:
        return {"value": act()}
    except RunError as error:
        return {"code": int(error.code), "reason": error.reason, "message": error.message}
    except (ArtifactError, OSError) as error:
        return {"storage": str(error)}


def _agreed(outcomes: list[Json], checkpoints: Store, name: str) -> list[Json]:
    """The values, or the first rank's error."""
    for rank, outcome in enumerate(outcomes):
        if "code" in outcome:
            raise RunError(ExitCode(outcome["code"]), outcome["message"], reason=outcome["reason"])
        if "storage" in outcome:
            who = f"rank {rank}: " if len(outcomes) > 1 else ""
            raise ArtifactError(checkpoints.uri_of(name), "save a checkpoint as", f"{who}{outcome['storage']}")
    return [outcome["value"] for outcome in outcomes]


def _commit(
    config: RunConfig, run: Store, checkpoints: Store, snapshot: Snapshot, name: str, stored: list[Json]
) -> CheckpointReport:
    position = snapshot.position
    uploaded = [FileRecord.model_validate(record) for part in stored for record in part["files"]]
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
        eval_loss=position.eval_loss,
        trainable_digest=_digest([part["digest"] for part in stored]),
        files=uploaded,
        seconds=round(monotonic() - snapshot.agreed_at, 3),
        at=timestamp(),
    )
    put_manifest(run, checkpoints, name, manifest)
    return CheckpointReport(
        step=position.step,
        attempt=config.attempt,
        uri=checkpoints.uri_of(name),
        bytes=sum(f.size for f in uploaded),
        seconds=round(monotonic() - snapshot.agreed_at, 3),
        stall_seconds=round(snapshot.stall_seconds, 3),
        digest=manifest.trainable_digest,
        at=manifest.at,
    )


def _digest(parts: list[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return f"xxh3:{xxhash.xxh3_128(' '.join(parts).encode()).hexdigest()}"
