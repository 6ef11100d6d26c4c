"""Content first, manifest last, and every step can be repeated: a publish pod may die at any byte.

The output is claimed with a marker before the first file. Whatever an earlier try of the same run left there is
overwritten or removed; the manifest appears once, and from then on nothing is written any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from finetune_api.exitcodes import ExitCode
from finetune_api.layout import MANIFEST
from finetune_api.manifests import CheckpointManifest, FileRecord, GateResult, Lineage, MetricValue, ModelManifest
from finetune_api.objective import taught_from
from finetune_api.reports import PublishedModel
from finetune_api.runconfig import RunConfig
from finetune_api.served import ServedResult
from finetune_artifacts import AlreadyExists, ArtifactError, FileDigest, Store, show_progress
from finetune_trainer.common.clock import timestamp
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.pins import pinned
from finetune_trainer.model.published import MARKER, OutputTaken, claim, find_published, published, records_digest


def refuse_taken(store: Store, config: RunConfig) -> PublishedModel | None:
    """What this run has published already, or None. Raises RunError (64) when the place is another's."""
    try:
        return find_published(store, config.run_key or "")
    except OutputTaken as error:
        raise _taken(error) from None


def upload(
    store: Store,
    folder: Path,
    *,
    config: RunConfig,
    kind: str,
    checkpoint: CheckpointManifest,
    metrics: Mapping[str, MetricValue],
    gate: Sequence[GateResult],
    gate_passed: bool,
    served: ServedResult | None = None,
) -> PublishedModel:
    """Raises RunError (64) when another run has taken the place, ArtifactError when storage fails."""
    try:
        claim(store, config.run_key or "")
    except OutputTaken as error:
        raise _taken(error) from None
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for entry in list(store.list()):
        if entry.path not in names and entry.path not in (MARKER, MANIFEST):
            store.delete(entry.path)
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    with show_progress("upload model", total) as progress:
        sent = store.upload_tree(folder, "", algo="sha256", progress=progress)
    manifest = ModelManifest(
        kind=kind,
        digest=records_digest(sent),
        files=[FileRecord(path=f.path, size=f.size, digest=f.digest) for f in _sorted(sent)],
        metrics=dict(metrics),
        gate=list(gate),
        gate_passed=gate_passed,
        served_check=served,
        lineage=lineage(config, checkpoint),
        at=timestamp(),
    )
    try:
        store.put_if_absent(MANIFEST, manifest.model_dump_json(by_alias=True, exclude_none=True).encode())
    except AlreadyExists:
        found = refuse_taken(store, config)
        if found is None:
            raise
        return found
    with suppress(ArtifactError):
        store.delete(MARKER)
    return published(store, manifest)


def lineage(config: RunConfig, checkpoint: CheckpointManifest) -> Lineage:
    taught = taught_from(config.spec)
    return Lineage(
        namespace=config.namespace,
        name=config.name,
        uid=config.uid,
        run_key=config.run_key or "",
        model_uri=pinned(config.spec.model.uri, config.pins),
        model_revision=config.model_revision or "",
        data_fingerprint=config.data_fingerprint or "",
        teacher_uri=pinned(taught[1].uri, config.pins) if taught else None,
        teacher_revision=config.teacher_revision,
        checkpoint_step=checkpoint.step,
        checkpoint_attempt=checkpoint.attempt,
        averaged_steps=checkpoint.averaged_steps,
        trainable_digest=checkpoint.trainable_digest,
        trainer_version=_version(),
        seed=checkpoint.seed,
    )


def _sorted(files: Sequence[FileDigest]) -> list[FileDigest]:
    return sorted(files, key=lambda file: file.path)


def _version() -> str:
    try:
        return version("finetune-operator")
    except PackageNotFoundError:
        return "unknown"


def _taken(error: OutputTaken) -> RunError:
    return RunError(ExitCode.INVALID_SPEC, f"spec.output.uri: {error}", reason="OutputTaken")
