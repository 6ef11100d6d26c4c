"""A pod's last words: the termination message for the kubelet, and the same with the log's tail in the run directory.

The operator may be away when a pod ends, and a node may vanish with its pod object: what the run directory holds is
what the next attempt can still report.
"""

from __future__ import annotations

import os
from pathlib import Path

from finetune_api import layout
from finetune_api import runconfig as rc
from finetune_api.base import WireModel
from finetune_api.reports import LastWords, termination_message
from finetune_artifacts import ArtifactError, Store
from finetune_trainer.common import log
from finetune_trainer.common.files import write_atomic


def termination_log() -> Path:
    return Path(os.environ.get(rc.TERMINATION_LOG_ENV) or rc.TERMINATION_LOG)


def write_termination(report: WireModel) -> None:
    """Best effort: outside a pod there may be no such file."""
    try:
        write_atomic(termination_log(), termination_message(report).encode())
    except OSError as error:
        log.warning("no termination message written", path=str(termination_log()), cause=error.strerror)


def store_last_words(store: Store, words: LastWords) -> None:
    try:
        store.put_bytes(layout.exit_path(words.attempt, words.index), words.model_dump_json(by_alias=True).encode())
    except ArtifactError as error:
        log.warning("the last words could not be stored", cause=str(error))
