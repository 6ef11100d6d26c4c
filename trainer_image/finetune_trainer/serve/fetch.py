"""Fetch: brings the published model into the engine's volume, every byte checked against the manifest.

It is the engine pod's init container, so it may be killed at any byte and is started again: whole files are kept, a
half one goes on. config.json, without which no engine loads a folder, arrives last and goes first: a folder that is
not wholly the published model is never served. A model on a claim is served from where it lies: it is hashed there
and nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from finetune_api import serveconfig as sc
from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import FileRecord, ModelManifest
from finetune_api.serveconfig import FetchReport, ServeConfig
from finetune_artifacts import ArtifactError, DigestMismatch, FileDigest, NotFound, Store, Unreachable
from finetune_artifacts.local import translated
from finetune_artifacts.progress import LineProgress
from finetune_trainer.common import log
from finetune_trainer.common.clock import monotonic, timestamp
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.lastwords import write_termination
from finetune_trainer.common.stores import open_for
from finetune_trainer.model.inspect import CONFIG
from finetune_trainer.model.quantity import human_bytes
from finetune_trainer.preflight.problems import storage_in_words
from finetune_trainer.serve import manifest as manifests
from finetune_trainer.serve.inplace import check_in_place
from finetune_trainer.serve.patience import Patience
from finetune_trainer.serve.reasons import Reason


def model_dir() -> Path:
    return Path(os.environ.get(sc.MODEL_DIR_ENV) or sc.MODEL_DIR)


def fetch(config: ServeConfig, patience: Patience | None = None) -> int:
    """The exit code: 0, 64, 66 (not what was published), 69 (Secret, access), 74 (storage stayed away, disk full)."""
    work = _Fetch(config, model_dir(), patience or Patience(config.deadline_seconds))
    started = monotonic()
    code, reason, message = ExitCode.DONE, str(Reason.FETCHED), ""
    try:
        message = work.run()
    except RunError as error:
        work.retract()
        code, reason, message = error.code, error.reason, error.message
        log.error(message, reason=reason, exit_code=int(code))
    report = FetchReport(
        exit_code=int(code),
        reason=reason,
        message=message,
        bytes=work.moved,
        seconds=round(monotonic() - started, 3),
        at=timestamp(),
    )
    write_termination(report)
    return report.exit_code


@dataclass
class _Fetch:
    config: ServeConfig
    folder: Path
    patience: Patience
    moved: int = 0
    """The most bytes that one try has had in place."""
    _attempt: int = field(default=0, init=False)

    def run(self) -> str:
        """Raises RunError."""
        self.retract()
        started = monotonic()
        while True:
            try:
                manifest = self._try()
                break
            except Unreachable as error:
                self._wait_or_raise(error)
            except ArtifactError:
                with storage_in_words(None, self.config.secret):
                    raise
        total = human_bytes(sum(file.size for file in manifest.files))
        words = (
            f"{len(manifest.files)} files with {total} of {self.config.model_uri} are in {self.folder}, as published"
        )
        log.event(words, digest=manifest.digest, seconds=round(monotonic() - started, 1))
        return words

    @property
    def in_place(self) -> bool:
        """The folder is the claim's own."""
        return self.config.model_uri.startswith("pvc://")

    def retract(self) -> None:
        """Makes the folder one that no engine loads."""
        if self.in_place:
            return
        with suppress(OSError):
            (self.folder / CONFIG).unlink(missing_ok=True)

    def _try(self) -> ModelManifest:
        """Raises RunError, ArtifactError."""
        config = self.config
        store = open_for(config, config.model_uri, config.secret)
        manifest = manifests.read_manifest(store)
        manifests.require_intact(store, manifest, config.expected_digest)
        manifests.require_servable(store, manifest)
        if self.in_place:
            with storage_in_words(None, None):
                self.moved = check_in_place(self.folder, manifest.files)
            return manifest
        with translated(str(self.folder), "write"):
            _remove_strangers(self.folder, manifest.files)
        last = [file for file in manifest.files if file.path == CONFIG]
        self._download(store, [file for file in manifest.files if file.path != CONFIG])
        self._download(store, last)
        return manifest

    def _download(self, store: Store, files: Sequence[FileRecord]) -> None:
        progress = LineProgress("fetch model", sum(file.size for file in files), log=log.event)

        def count(arrived: int) -> None:
            progress(arrived)
            if progress.done > self.moved:
                self.moved = progress.done
                self._attempt = 0
                self.patience.renew()

        wanted = [FileDigest(file.path, file.size, file.digest) for file in files]
        try:
            store.download_tree("", self.folder, files=wanted, algo="sha256", progress=count)
        except NotFound as error:
            raise RunError(
                ExitCode.DATA_INVALID,
                f"{error}; the manifest names it: restore the file, or publish the model again",
                reason=Reason.FILE_MISSING,
            ) from None
        except DigestMismatch as error:
            raise RunError(
                ExitCode.DATA_INVALID,
                f"{error}. It was not put in place, and the folder is not served",
                reason=Reason.FILE_TAMPERED,
            ) from None

    def _wait_or_raise(self, error: Unreachable) -> None:
        log.warning("storage does not answer; trying again", cause=str(error), patience_left=round(self.patience.left))
        if not self.patience.pause(self._attempt):
            raise RunError(
                ExitCode.STORAGE,
                f"{error} (nothing arrived for {self.patience.seconds:.0f} s). What has arrived is kept while this "
                "pod stays, and fetching goes on from there",
                reason=Reason.STORAGE_UNREACHABLE,
            ) from None
        self._attempt += 1


def _remove_strangers(folder: Path, files: Sequence[FileRecord]) -> None:
    """An engine reads every weight file that it finds. Half files of an earlier try are none of its business."""
    named = {file.path for file in files}
    kept = named | {path + suffix for path in named for suffix in (".part", ".part.tag")}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in kept:
            path.unlink()
            log.warning("a file that the manifest does not name was removed", path=str(path))
