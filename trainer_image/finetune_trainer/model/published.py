"""Whose output a place is: ours, free, or somebody else's.

A published model is never overwritten, and neither are files that happen to lie where a job was told to publish. So a
run claims its output with a marker before the first byte; the marker goes when the manifest stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from pydantic import ValidationError

from finetune_api.layout import MANIFEST
from finetune_api.manifests import ModelManifest
from finetune_api.reports import PublishedModel
from finetune_artifacts import AlreadyExists, FileDigest, NotFound, Store

MARKER = "PUBLISHING.json"
_PROBES = ".probe/"


class OutputTaken(ValueError):
    """The place belongs to somebody else; the text says to whom and what to do."""


def read_manifest(store: Store) -> ModelManifest | None:
    """Raises OutputTaken when a MANIFEST.json is there that is not a model's."""
    try:
        content = store.get_bytes(MANIFEST)
    except NotFound:
        return None
    try:
        return ModelManifest.model_validate_json(content)
    except ValidationError:
        raise OutputTaken(
            f"{store.uri_of(MANIFEST)} exists and is not a model manifest; choose another output.uri"
        ) from None


def find_published(store: Store, run_key: str) -> PublishedModel | None:
    """The model this run has published here, or None when the place is free.

    Raises OutputTaken when another run has published here, or when files lie here that no run of ours has claimed.
    """
    manifest = read_manifest(store)
    if manifest is not None:
        owner = manifest.lineage
        if owner.run_key == run_key:
            return published(store, manifest)
        raise OutputTaken(
            f"{store.uri} already holds the model of {owner.namespace}/{owner.name} (run {owner.run_key}), and a "
            "published output is never overwritten; choose another output.uri, or remove that model first"
        )
    claimed = _claimed_by(store)
    if claimed == run_key:
        return None
    if claimed is not None:
        raise OutputTaken(
            f"{store.uri} is being published to by run {claimed} (marker {MARKER}); choose another output.uri, or "
            "remove what lies there if that run is gone"
        )
    stranger = next((e.path for e in store.list() if not e.path.startswith(_PROBES)), None)
    if stranger is not None:
        raise OutputTaken(
            f"{store.uri} is not empty ({stranger!r:.120} lies there); a job publishes only into a folder of its own: "
            "choose another output.uri"
        )
    return None


def claim(store: Store, run_key: str) -> None:
    """Call after `find_published` said the place is free. Raises OutputTaken when another run was faster."""
    try:
        store.put_if_absent(MARKER, json.dumps({"runKey": run_key}).encode())
    except AlreadyExists:
        owner = _claimed_by(store)
        if owner != run_key:
            raise OutputTaken(f"{store.uri} was claimed by run {owner} just now; choose another output.uri") from None


def published(store: Store, manifest: ModelManifest) -> PublishedModel:
    return PublishedModel(
        uri=store.uri, digest=manifest.digest, manifest=store.uri_of(MANIFEST), merged=manifest.kind == "Merged"
    )


def records_digest(files: Iterable[FileDigest]) -> str:
    """The identity of a published model: sha256 over its sorted file records, so equal content has equal digests."""
    rows = sorted([file.path, file.size, file.digest] for file in files)
    return f"sha256:{hashlib.sha256(json.dumps(rows, separators=(',', ':')).encode()).hexdigest()}"


def _claimed_by(store: Store) -> str | None:
    try:
        return str(json.loads(store.get_bytes(MARKER))["runKey"])
    except NotFound:
        return None
    except (ValueError, KeyError, TypeError):
        return "unknown"
