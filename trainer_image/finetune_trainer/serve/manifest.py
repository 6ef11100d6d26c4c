"""The published model's manifest: is it whole, is it the one that was meant, and may what it names be served?

The model's identity is a digest over the manifest's file records, so a changed record shows at once; a changed file
shows when its bytes are hashed. The gate's lines are not part of the identity: each of them is judged, whatever the
summary beside them says.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from finetune_api.allowed import ADAPTER, SCORER, WRITES_NOTHING
from finetune_api.exitcodes import ExitCode
from finetune_api.layout import MANIFEST
from finetune_api.manifests import FileRecord, ModelManifest
from finetune_artifacts import FileDigest, InvalidUri, NotFound, Store
from finetune_trainer.common.errors import RunError
from finetune_trainer.model.published import records_digest
from finetune_trainer.serve.reasons import Reason

_ADVICE = "publish the model again, or serve another one"


def read_manifest(store: Store) -> ModelManifest:
    """Raises RunError (69 missing, 66 no manifest of a model), ArtifactError."""
    uri = store.uri_of(MANIFEST)
    try:
        content = store.get_bytes(MANIFEST)
    except NotFound as error:
        raise RunError(
            ExitCode.WAITING,
            f"there is no {uri} ({error.cause}): only a folder that a FineTuneJob has published can be served; wait "
            "until it is published, or correct spec.model.uri. It is looked for again",
            reason=Reason.MANIFEST_MISSING,
        ) from None
    try:
        return ModelManifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the document"
        raise RunError(
            ExitCode.DATA_INVALID,
            f"{uri} is not the manifest of a published model: {field}: {first['msg']}; {_ADVICE}",
            reason=Reason.MANIFEST_INVALID,
        ) from None


def require_intact(store: Store, manifest: ModelManifest, expected: str | None) -> None:
    """The records add up to the digest, and that is the expected one. Raises RunError (66)."""
    uri = store.uri_of(MANIFEST)
    _require_paths(store, manifest.files)
    found = records_digest(FileDigest(file.path, file.size, file.digest) for file in manifest.files)
    if found != manifest.digest:
        raise RunError(
            ExitCode.DATA_INVALID,
            f"{uri} was changed after it was published: its files add up to {found}, its field digest says "
            f"{manifest.digest}; restore it, or {_ADVICE}",
            reason=Reason.MANIFEST_TAMPERED,
        )
    if expected is not None and found != expected:
        raise RunError(
            ExitCode.DATA_INVALID,
            f"{uri} describes another model than was published: expected digest {expected}, found {found}; restore "
            f"it, or {_ADVICE}",
            reason=Reason.MANIFEST_TAMPERED,
        )


def require_servable(store: Store, manifest: ModelManifest) -> None:
    """Raises RunError (64) for an adapter, and for a model that writes nothing."""
    if manifest.kind in WRITES_NOTHING:
        model = "a reward model, which scores" if manifest.kind == SCORER else "a classifier, which sorts"
        raise RunError(
            ExitCode.INVALID_SPEC,
            f"{store.uri} holds {model} texts and writes none; rollouts serve models that write. "
            "Load it with transformers (AutoModelForSequenceClassification)",
            reason=Reason.NOT_GENERATIVE,
        )
    if manifest.kind == ADAPTER:
        raise RunError(
            ExitCode.INVALID_SPEC,
            f"{store.uri} holds a LoRA adapter without its base model, which an engine cannot serve by itself; "
            "publish with output.merge: true and serve that model",
            reason=Reason.ADAPTER_ONLY,
        )


def gate_passed(manifest: ModelManifest) -> bool:
    return manifest.gate_passed and all(line.passed for line in manifest.gate)


def require_gate(store: Store, manifest: ModelManifest) -> None:
    """Raises RunError (76) naming the lines that failed."""
    if gate_passed(manifest):
        return
    failed = "; ".join(line.message for line in manifest.gate if not line.passed)
    raise RunError(
        ExitCode.GATE_FAILED,
        f"the model at {store.uri} did not pass its gate: {failed or 'its manifest says gatePassed: false'}; serve "
        "another one, or set spec.model.requireGate: false to serve it all the same",
        reason=Reason.GATE_FAILED,
    )


def _require_paths(store: Store, files: Sequence[FileRecord]) -> None:
    """A manifest may come from anywhere: no path may lead out of the folder, and only sha256 withstands an attacker."""
    seen: set[str] = set()
    for index, file in enumerate(files):
        problem = None
        try:
            store.checked(file.path)
        except InvalidUri as error:
            problem = f"path: {error.cause}"
        if file.path in seen:
            problem = "path: it stands there twice"
        if not file.digest.startswith("sha256:"):
            problem = "digest: expected sha256:<64 hex>"
        if problem:
            raise RunError(
                ExitCode.DATA_INVALID,
                f"{store.uri_of(MANIFEST)}: files[{index}] ({file.path!r:.120}): {problem}; {_ADVICE}",
                reason=Reason.MANIFEST_INVALID,
            )
        seen.add(file.path)
