"""A published model as files: everything real but its size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_api.layout import MANIFEST
from finetune_api.serveconfig import ServeConfig
from finetune_artifacts import FileDigest, digest_file
from finetune_trainer.model.published import records_digest
from tests.trainer.test_model_inspect import CONFIG, weights

LINEAGE = {
    "namespace": "team-a",
    "name": "support-bot",
    "uid": "u",
    "runKey": "0123456789abcdef",
    "modelUri": "file:///base",
    "modelRevision": "r",
    "dataFingerprint": "d",
    "checkpointStep": 1,
    "checkpointAttempt": 1,
    "trainableDigest": "sha256:" + "0" * 64,
    "trainerVersion": "0",
    "seed": 1,
}


def publish(folder: Path, **changes: Any) -> str:
    """Writes a model and its manifest; `changes` are the manifest's fields. Returns the model's digest."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(weights({"model.embed_tokens.weight": [32, 8], "lm_head.weight": [8]}))
    (folder / "tokenizer.json").write_text("{}")
    return commit(folder, **changes)


def commit(folder: Path, **changes: Any) -> str:
    """A manifest over all that lies there."""
    files = [
        FileDigest(path.relative_to(folder).as_posix(), path.stat().st_size, digest_file(path, "sha256"))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    ]
    document = {
        "kind": "Merged",
        "digest": records_digest(files),
        "files": [vars(file) for file in files],
        "gatePassed": True,
        "lineage": LINEAGE,
        "at": "2026-01-02T03:04:05Z",
    }
    (folder / MANIFEST).write_text(json.dumps(document | changes))
    return str(document["digest"])


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Somebody edits the manifest and nothing else."""
    document = json.loads((folder / MANIFEST).read_text())
    change(document)
    (folder / MANIFEST).write_text(json.dumps(document))


def config(uri: str, **fields: Any) -> ServeConfig:
    return ServeConfig.model_validate({"namespace": "team-a", "name": "support", "modelUri": uri, **fields})


def sha256(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
