"""Makes a custom script's checkpoint count, by the rules of the built-in trainer's: content first, then the fences,
then the manifest, which must not exist yet. No torch, and nothing is read but the bytes.

Each node stores what it has; index 0 commits once all have. Nodes write different files (HF Trainer: each rank's random
state), and some the same: index 0's lie in the checkpoint itself, those of node i below `node-<i>/`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xxhash

from finetune_api import layout
from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import CheckpointManifest, FileRecord
from finetune_api.reports import CheckpointReport
from finetune_api.runconfig import RunConfig
from finetune_artifacts import FileDigest, NotFound, Progress, Store
from finetune_trainer.checkpoint.fences import refuse_if_fenced
from finetune_trainer.checkpoint.manifest import put_manifest
from finetune_trainer.common.clock import monotonic, timestamp
from finetune_trainer.common.errors import RunError

POLL_SECONDS = 0.2


def node_folder(index: int) -> str:
    return f"node-{index}"


def part_path(name: str, index: int) -> str:
    return f"{name}/part-{index}.json"


def digest_of(files: Sequence[FileDigest | FileRecord]) -> str:
    """`xxh3:<128 bits>` over names, sizes and digests: equal bytes have equal digests."""
    rows = sorted([file.path, file.size, file.digest] for file in files)
    return f"xxh3:{xxhash.xxh3_128(json.dumps(rows, separators=(',', ':')).encode()).hexdigest()}"


def store_part(config: RunConfig, checkpoints: Store, index: int, step: int, folder: Path, progress: Progress) -> None:
    """What a node other than index 0 has. May be called again."""
    name = layout.checkpoint_name(step, config.attempt)
    sent = checkpoints.upload_tree(folder, f"{name}/{node_folder(index)}", progress=progress)
    records = [{"path": f"{node_folder(index)}/{f.path}", "size": f.size, "digest": f.digest} for f in sent]
    checkpoints.put_bytes(part_path(name, index), json.dumps(records).encode())


def commit(
    config: RunConfig, run: Store, checkpoints: Store, facts: dict[str, Any], folder: Path, progress: Progress
) -> CheckpointReport:
    """Index 0: uploads `folder`, waits for the other nodes' parts, and commits. May be called again.

    Raises RunError (86) when a newer attempt has begun, (74) when a node's part does not come.
    """
    began, step = monotonic(), int(facts["step"])
    name = layout.checkpoint_name(step, config.attempt)
    refuse_if_fenced(run, config.attempt)
    sent = checkpoints.upload_tree(folder, name, progress=progress)
    files = [FileRecord(path=f.path, size=f.size, digest=f.digest) for f in sent]
    if not files:
        raise RunError(ExitCode.FAILED, f"the script said that step {step} is saved, but its folder is empty")
    for index in range(1, config.nodes):
        files += _part(config, checkpoints, name, index)
    return seal(config, run, checkpoints, name, facts, files, began)


def seal(
    config: RunConfig,
    run: Store,
    store: Store,
    name: str,
    facts: dict[str, Any],
    files: list[FileRecord],
    began: float,
) -> CheckpointReport:
    """Puts the manifest of `name`, below `store`, after a look at the fences."""
    manifest = CheckpointManifest(
        job_uid=config.uid,
        spec_digest=config.spec_digest,
        attempt=config.attempt,
        step=int(facts["step"]),
        total_steps=int(facts.get("totalSteps") or 0),
        epoch=float(facts.get("epoch") or 0.0),
        tokens=0,
        world_size=config.world_size,
        global_batch_size=0,
        seed=int(facts.get("seed") or 0),
        loss=facts.get("loss"),
        trainable_digest=digest_of(files),
        files=files,
        seconds=round(monotonic() - began, 3),
        at=timestamp(),
    )
    put_manifest(run, store, name, manifest)
    return report(config, store, manifest, name)


def report(config: RunConfig, store: Store, manifest: CheckpointManifest, name: str) -> CheckpointReport:
    return CheckpointReport(
        step=manifest.step,
        attempt=config.attempt,
        uri=store.uri_of(name),
        bytes=sum(f.size for f in manifest.files),
        seconds=manifest.seconds,
        digest=manifest.trainable_digest,
        at=manifest.at,
    )


def wait_for(look: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first thing found. Raises RunError (74)."""
    deadline = monotonic() + seconds
    while (found := look()) is None:
        if monotonic() > deadline:
            raise RunError(ExitCode.STORAGE, f"{what} did not come within {seconds:.0f} s; see that pod's log")
        time.sleep(POLL_SECONDS)
    return found


def _part(config: RunConfig, checkpoints: Store, name: str, index: int) -> list[FileRecord]:
    def look() -> bytes | None:
        try:
            return checkpoints.get_bytes(part_path(name, index))
        except NotFound:
            return None

    content = wait_for(look, patience(config), f"node {index}'s part of {name}")
    return [FileRecord.model_validate(record) for record in json.loads(content)]


def patience(config: RunConfig) -> float:
    from finetune_api.duration import parse_duration

    return parse_duration(config.spec.retry.hang_timeout)


def flatten(folder: Path) -> None:
    """The nodes' files beside index 0's, whose own are never replaced: what one machine would have written."""
    for node in sorted(folder.glob("node-[0-9]*")):
        for path in sorted(p for p in node.rglob("*") if p.is_file()):
            target = folder / path.relative_to(node)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
        shutil.rmtree(node)
