"""Preflight in this process: the same checks as in the cluster, their lines shown as they come."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

from finetune_api.exitcodes import ExitCode
from finetune_api.reports import PreflightReport
from finetune_api.runconfig import RunConfig
from finetune_artifacts import ArtifactError
from finetune_cli.say import Voice
from finetune_trainer.common.errors import RunError
from finetune_trainer.preflight.main import examine

_OURS = frozenset({"done"})
"""Said better by who asked."""
_CLUSTER_ONLY = (" It is looked for again", " It is looked at again", " It is tried again")


class _Lines(io.TextIOBase):
    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._rest = tell, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._tell(line)
        return len(text)


def preflight(config: RunConfig, voice: Voice) -> PreflightReport:
    """Raises RunError with the code and the words of preflight."""

    def tell(line: str) -> None:
        name, _, words = line.partition(" ")
        if name not in _OURS and words:
            voice.stage(name, words.strip(), "yellow" if name == "warning" else "cyan")

    try:
        with contextlib.redirect_stdout(_Lines(tell)):
            return examine(config)
    except RunError as error:
        error.message = here(error.message)
        raise
    except ArtifactError as error:
        raise RunError(ExitCode.STORAGE, str(error)) from None


def here(message: str) -> str:
    """Without what only the operator does: nobody asks again by himself on this machine."""
    for words in _CLUSTER_ONLY:
        message = message.replace(words, "")
    return message.replace("the pod's own credentials", "this shell's credentials")
