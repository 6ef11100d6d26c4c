"""The storage container of a custom trainer's pod: everything that needs credentials, and nothing of the user's.

It starts before the script and is ended by the kubelet after it (a sidecar: an init container that stays). It may be
started again at any moment, so each thing it does can be done twice.
"""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from finetune_api import layout
from finetune_api.exitcodes import ExitCode, reason
from finetune_api.manifests import FileRecord
from finetune_api.reports import CheckpointReport, LastWords
from finetune_api.runconfig import RunConfig
from finetune_artifacts import ArtifactError
from finetune_trainer.checkpoint.fences import list_fences
from finetune_trainer.checkpoint.find import read_manifest
from finetune_trainer.checkpoint.retention import apply_retention
from finetune_trainer.common import log, signals
from finetune_trainer.common.clock import monotonic
from finetune_trainer.common.config import pod_index, scratch_dir
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.lastwords import store_last_words
from finetune_trainer.common.models import fetch_model
from finetune_trainer.common.stores import open_checkpoints, open_run
from finetune_trainer.custom.commit import commit, patience, report, seal, store_part, wait_for
from finetune_trainer.custom.settle import settle
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.foreign.exchange import Exchange, Folders

T = TypeVar("T")
OUTPUTS = "outputs"
"""Of the run directory: `outputs/a<attempt>/`, content, then MANIFEST.json; publish takes the newest."""
RETRY_SECONDS = (0.5, 2.0, 5.0, 10.0, 30.0)
TICK_SECONDS = 0.2


def output_name(attempt: int) -> str:
    return f"a{attempt}"


def accompany(config: RunConfig) -> int:
    """Until SIGTERM. What goes wrong is said to the launcher, which ends the pod with that code and those words."""
    leaving = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leaving.set())
    if signals.heard():
        return 0
    folders = Folders(scratch_dir())
    exchange = Exchange(folders.channel)
    log.bind(attempt=config.attempt, index=pod_index(), container="storage")
    worker = threading.Thread(target=_work, args=(config, folders, exchange), name="work", daemon=True)
    worker.start()
    leaving.wait()
    return 0


def _work(config: RunConfig, folders: Folders, exchange: Exchange) -> None:
    companion = Companion(config, pod_index(), folders, exchange)
    try:
        companion.prepare()
        while True:
            companion.look()
            time.sleep(TICK_SECONDS)
    except RunError as error:
        code = ExitCode.STORAGE if error.code is ExitCode.WAITING else error.code
        exchange.put_problem(int(code), error.reason, error.message)
        log.error(error.message, reason=error.reason, exit_code=int(code))
    except (ArtifactError, OSError) as error:
        exchange.put_problem(int(ExitCode.STORAGE), reason(ExitCode.STORAGE), str(error))
        log.error(str(error), exit_code=int(ExitCode.STORAGE))
    except Exception as error:
        exchange.put_problem(int(ExitCode.FAILED), "StorageContainer", f"the storage container failed: {error!r}")
        raise
    companion.words_until_the_end()


def _own(folder: Path) -> Path:
    """Links below it are refused by the upload: this container sees credentials that the script must not get at."""
    if folder.is_symlink() or folder.parent.is_symlink():
        raise RunError(ExitCode.INVALID_SPEC, f"{folder} is a symbolic link; the script must write a folder there")
    return folder


class Companion:
    def __init__(self, config: RunConfig, index: int, folders: Folders, exchange: Exchange) -> None:
        self._config, self._index, self._folders, self._exchange = config, index, folders, exchange
        self._beaten = 0.0

    def prepare(self) -> None:
        """Fence, checkpoint, model, data; then the launcher may begin. Raises RunError, ArtifactError."""
        if self._exchange.ready() is not None:
            return
        config, folders = self._config, self._folders
        chosen = settle(config, self._index, open_run(config), open_checkpoints(config), folders, self.beat)
        fetch_model(config, folders.model, self.beat)
        fetch_data(config, folders.data, self.beat)
        self._exchange.put_ready({"resume": json.loads(chosen)})

    def look(self) -> None:
        """Does what has been asked for since. Raises RunError, ArtifactError."""
        for facts in self._exchange.saved():
            self._keep(facts)
        finished = self._exchange.finished()
        if finished is not None and not self._exchange.kept():
            self._patiently(lambda: self._output(finished))
            self._exchange.put_kept()
        self._words()

    def words_until_the_end(self) -> None:
        while True:
            self._words()
            time.sleep(TICK_SECONDS)

    def beat(self, _bytes: int = 0) -> None:
        if monotonic() - self._beaten > TICK_SECONDS:
            self._beaten = monotonic()
            self._exchange.storage_beat()

    def _keep(self, facts: dict[str, Any]) -> None:
        step = int(facts["step"])
        folder = self._folders.saving / str(step)
        done = self._patiently(lambda: self._commit(facts))
        self._exchange.put_committed(done.to_wire())
        self._exchange.forget_saved(step)
        shutil.rmtree(folder, ignore_errors=True)
        log.event("checkpoint committed", step=step, bytes=done.bytes, seconds=done.seconds)

    def _commit(self, facts: dict[str, Any]) -> CheckpointReport:
        config, step = self._config, int(facts["step"])
        run, checkpoints = open_run(config), open_checkpoints(config)
        folder = _own(self._folders.saving / str(step))
        if self._index == 0:
            done = commit(config, run, checkpoints, facts, folder, self.beat)
            apply_retention(checkpoints, list_fences(run), keep=config.spec.checkpoint.keep.last)
            return done
        name = layout.checkpoint_name(step, config.attempt)
        store_part(config, checkpoints, self._index, step, folder, self.beat)
        manifest = wait_for(lambda: read_manifest(checkpoints, name), patience(config), f"index 0's commit of {name}")
        return report(config, checkpoints, manifest, name)

    def _output(self, facts: dict[str, Any]) -> CheckpointReport:
        began, run = monotonic(), open_run(self._config)
        _own(self._folders.output)
        outputs, name = run.child(OUTPUTS), output_name(self._config.attempt)
        sent = outputs.upload_tree(self._folders.output, name, progress=self.beat)
        files = [FileRecord(path=f.path, size=f.size, digest=f.digest) for f in sent]
        return seal(self._config, run, outputs, name, facts, files, began)

    def _words(self) -> None:
        words = self._exchange.words()
        if words is not None and not self._exchange.words_kept():
            store_last_words(open_run(self._config), LastWords.model_validate(words))
            self._exchange.put_words_kept()

    def _patiently(self, act: Callable[[], T]) -> T:
        """Storage that fails is asked again; then its error ends the attempt (74), and the next one resumes."""
        for seconds in RETRY_SECONDS:
            try:
                return act()
            except (ArtifactError, OSError) as error:
                log.warning("not stored", cause=str(error), again_in_seconds=seconds)
                time.sleep(seconds)
                self.beat()
        return act()
