"""The zipapp's entry point: listens for signals first, then reads what the pod was given, then launches."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from finetune_api import pod
from finetune_api.exitcodes import ExitCode
from finetune_trainer.common import log
from finetune_trainer.common.clock import timestamp
from finetune_trainer.foreign.exchange import Folders
from finetune_trainer.foreign.launcher import Launcher
from finetune_trainer.foreign.words import write_termination
from finetune_trainer.launcher.tee import Tee


def token() -> str | None:
    """The run's token, or None when none was mounted: then the guarded endpoints refuse everybody."""
    try:
        return Path(os.environ.get(pod.TOKEN_ENV_PATH) or pod.TOKEN_PATH).read_text().strip() or None
    except OSError:
        return None


def main() -> None:
    heard: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: heard.append(number))
    path = Path(os.environ.get(pod.CONFIG_ENV) or pod.CONFIG_PATH)
    folders = Folders(Path(os.environ.get(pod.SCRATCH_DIR_ENV) or pod.SCRATCH_DIR))
    index = int(os.environ.get(pod.INDEX_ENV, "0"))
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        words = {"format": 1, "attempt": 0, "index": index, "exitCode": 64, "reason": "InvalidSpec", "at": timestamp()}
        write_termination({**words, "message": f"the run config {path} cannot be read: {error}"})
        sys.exit(int(ExitCode.INVALID_SPEC))
    folders.tmp.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(folders.tmp)
    if not os.access(os.environ.get("HOME", "/"), os.W_OK):
        os.environ["HOME"] = str(folders.scratch)
    tee = Tee(folders.log)
    tee.install()
    log.bind(attempt=config["attempt"], index=index)
    code = Launcher(config, index, folders, tee, heard, token()).run()
    tee.restore(1.0)
    sys.stdout.flush()
    os._exit(int(code))
