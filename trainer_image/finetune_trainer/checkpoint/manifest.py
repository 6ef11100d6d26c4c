"""What makes a checkpoint count: its manifest, put once, after a look at the fences. Its files are there already."""

from __future__ import annotations

from finetune_api import layout
from finetune_api.manifests import CheckpointManifest
from finetune_artifacts import AlreadyExists, Store
from finetune_trainer.checkpoint.fences import fenced, refuse_if_fenced
from finetune_trainer.checkpoint.find import read_manifest


def put_manifest(run: Store, checkpoints: Store, name: str, manifest: CheckpointManifest) -> None:
    """Raises RunError (86) when a later attempt has begun, or another pod of this one has committed `name`."""
    refuse_if_fenced(run, manifest.attempt)
    try:
        checkpoints.put_if_absent(f"{name}/{layout.MANIFEST}", manifest.model_dump_json(by_alias=True).encode())
    except AlreadyExists:
        # Ours, if an earlier try was answered too late: this attempt's fence has one holder.
        there = read_manifest(checkpoints, name)
        if there is None or there.files != manifest.files:
            raise fenced(manifest.attempt, manifest.attempt) from None
