"""Verify: is this the model that was published, all of it, and did it pass its gate?

Asked before anything is started. It reads the manifest and the headers, hashes the small files and counts the bytes
of the large ones, which `fetch` hashes as they arrive; so a model of any size is answered for within seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import FileRecord, ModelManifest
from finetune_api.serveconfig import ServeConfig, VerifyReport
from finetune_artifacts import ArtifactError, Entry, Store, digest_bytes
from finetune_trainer.common import log
from finetune_trainer.common.clock import timestamp
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.lastwords import write_termination
from finetune_trainer.common.stores import open_for
from finetune_trainer.model.inspect import Incomplete, NotAModel, inspect_model
from finetune_trainer.model.quantity import human_bytes
from finetune_trainer.preflight.problems import storage_in_words
from finetune_trainer.serve import manifest as manifests
from finetune_trainer.serve.reasons import Reason

SMALL = 16 << 20
_WORKERS = 8


def verify(config: ServeConfig) -> int:
    """The exit code: 0, 64 (adapter, bad URI), 66 (not what was published), 69 (may still arrive), 74, 76 (gate)."""
    work = _Verify(config)
    try:
        report = work.run()
    except RunError as error:
        report = work.report(error.code, error.reason, error.message)
        log.error(error.message, reason=error.reason, exit_code=report.exit_code)
    write_termination(report)
    return report.exit_code


class _Verify:
    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.manifest: ModelManifest | None = None

    def run(self) -> VerifyReport:
        """Raises RunError at the first thing that is wrong."""
        config = self.config
        with storage_in_words(None, config.secret):
            store = open_for(config, config.model_uri, config.secret)
            manifest = manifests.read_manifest(store)
            self._require_intact(store, manifest)
            self.manifest = manifest
            log.event("manifest read", digest=manifest.digest, kind=manifest.kind, files=len(manifest.files))
            manifests.require_servable(store, manifest)
            if config.require_gate:
                manifests.require_gate(store, manifest)
            entries = list(store.list())
            require_files(store, entries, manifest.files)
            model = _inspect(store, entries, manifest.files)
        total = human_bytes(sum(file.size for file in manifest.files))
        passed = manifests.gate_passed(manifest)
        gate = "its gate passed" if passed else "its gate did not pass, and spec.model.requireGate is false"
        message = (
            f"{model} at {store.uri}: {len(manifest.files)} files with {total} are as published; "
            f"{gate if manifest.gate else 'it had no gate'}"
        )
        log.event(message, digest=manifest.digest)
        return self.report(ExitCode.DONE, Reason.VERIFIED, message)

    def _require_intact(self, store: Store, manifest: ModelManifest) -> None:
        try:
            manifests.require_intact(store, manifest, self.config.expected_digest)
        except RunError as error:
            if error.reason == Reason.MANIFEST_TAMPERED:
                error.message += _culprit(store, manifest.files)
            raise

    def report(self, code: ExitCode, reason: str, message: str) -> VerifyReport:
        """With what is known of the model, also of one that is refused."""
        manifest = self.manifest
        return VerifyReport(
            exit_code=int(code),
            reason=reason,
            message=message,
            digest=manifest.digest if manifest else None,
            gate_passed=manifests.gate_passed(manifest) if manifest else None,
            files=len(manifest.files) if manifest else 0,
            bytes=sum(file.size for file in manifest.files) if manifest else 0,
            at=timestamp(),
        )


def require_files(store: Store, entries: Sequence[Entry], files: Sequence[FileRecord]) -> None:
    """Every file is there with its size, and the small ones with their bytes. Raises RunError (66), ArtifactError."""
    problem = differing(store, entries, files)
    if problem is not None:
        reason, words = problem
        raise RunError(
            ExitCode.DATA_INVALID,
            f"{words}; restore the file, or publish the model again",
            reason=reason,
        )


def differing(store: Store, entries: Sequence[Entry], files: Sequence[FileRecord]) -> tuple[Reason, str] | None:
    """The first file that is not as the manifest says, in words. Raises ArtifactError."""
    sizes = {entry.path: entry.size for entry in entries}
    for file in files:
        size = sizes.get(file.path)
        if size is None:
            return Reason.FILE_MISSING, f"{store.uri_of(file.path)} is in the manifest and not in storage"
        if size != file.size:
            return Reason.FILE_SIZE, f"{store.uri_of(file.path)}: expected {file.size} bytes, found {size}"
    small = [file for file in files if file.size <= SMALL]
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="hash") as pool:
        found = pool.map(lambda file: digest_bytes(store.get_bytes(file.path, SMALL), "sha256"), small)
        for file, digest in zip(small, found, strict=True):
            if digest != file.digest:
                return Reason.FILE_TAMPERED, f"{store.uri_of(file.path)}: expected {file.digest}, found {digest}"
    return None


def _culprit(store: Store, files: Sequence[FileRecord]) -> str:
    """Which record does not fit its file, where that can be told."""
    try:
        problem = differing(store, list(store.list()), files)
    except ArtifactError:
        problem = None
    return "" if problem is None else f". The record that does not fit: {problem[1]}"


def _inspect(store: Store, entries: Sequence[Entry], files: Sequence[FileRecord]) -> str:
    """The architecture and its size; what the manifest does not name is as if it were not there."""
    named = {file.path for file in files}
    try:
        model = inspect_model(store, [entry for entry in entries if entry.path in named])
    except (Incomplete, NotAModel) as error:
        raise RunError(
            ExitCode.DATA_INVALID,
            f"the model at {store.uri} cannot be served: it {error}",
            reason=Reason.MODEL_INVALID,
        ) from None
    return f"{model.architecture} with {model.parameters:,} parameters"
