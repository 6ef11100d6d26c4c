"""The last words of a custom trainer's pod, in the form of `finetune_api.reports.LastWords`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from finetune_api.pod import TERMINATION_LOG, TERMINATION_LOG_ENV, TERMINATION_LOG_MAX
from finetune_trainer.common.clock import timestamp
from finetune_trainer.common.files import write_atomic
from finetune_trainer.foreign.verdict import Verdict


def last_words(found: Verdict, progress: dict[str, Any], tail: str) -> dict[str, Any]:
    """On the wire; `progress` is what `/progress` answers."""
    known = ("attempt", "index", "step", "startStep", "runningAt", "checkpoint", "stopRequestedAt")
    words = {
        "format": 1,
        **{name: progress[name] for name in known if progress.get(name) is not None},
        "exitCode": found.code,
        "reason": found.reason,
        "message": found.message[:1024],
        "firstFailingRank": found.rank,
        "traceback": found.traceback,
        "logTail": tail,
        "at": timestamp(),
    }
    return {name: value for name, value in words.items() if value is not None}


def termination_message(words: dict[str, Any]) -> str:
    """Without the log; the traceback keeps its end, the message its beginning, until it fits the kubelet's limit."""
    short = {name: value for name, value in words.items() if name != "logTail"}
    for budget in (2048, 1024, 512, 256, 64):
        if "traceback" in short:
            short["traceback"] = short["traceback"][-budget:]
        short["message"] = short["message"][:budget]
        text = json.dumps(short, separators=(",", ":"))
        if len(text) <= TERMINATION_LOG_MAX:
            return text
    short.pop("traceback", None)
    return json.dumps(short, separators=(",", ":"))[:TERMINATION_LOG_MAX]


def write_termination(words: dict[str, Any]) -> None:
    """As well as may be: outside a pod there may be no such file."""
    path = Path(os.environ.get(TERMINATION_LOG_ENV) or TERMINATION_LOG)
    try:
        write_atomic(path, termination_message(words).encode())
    except OSError:
        return
