"""Publish: from the last checkpoint to a model that others may trust, or to the reason why not.

    prepare: evaluate, merge, check → (the serving image: served check) → finish: gate, upload, manifest last

Without a serving image one process does both parts; with one the publish pod runs them in containers of their own,
one after the other, on a shared volume. Every stage can be repeated, so a publish pod may be killed at any moment.
"""

from __future__ import annotations

import os
from enum import StrEnum

from finetune_api.exitcodes import ExitCode
from finetune_api.reports import PublishReport
from finetune_api.runconfig import RunConfig
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.lastwords import write_termination
from finetune_trainer.common.places import Places
from finetune_trainer.publish.finish import finish
from finetune_trainer.publish.prepare import prepare
from finetune_trainer.publish.session import Session
from finetune_trainer.publish.volume import Prepared


class Part(StrEnum):
    ALL = "all"
    PREPARE = "prepare"
    FINISH = "finish"


def publish(config: RunConfig, part: Part = Part.ALL) -> int:
    """The exit code: 0, 64, 66, 70, 71, 72, 73, 74, 75 or 76."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if config.run_key is None:
        raise RunError(ExitCode.INVALID_SPEC, "the run config has no runKey; publish needs the one preflight found")
    session = Session(config, Places.here())
    try:
        report = _run(session, part)
    except Exception as error:
        report = session.failed(error)
        log.error(report.message, reason=report.reason, exit_code=report.exit_code, stage=report.stage)
    write_termination(report)
    return report.exit_code


def _run(session: Session, part: Part) -> PublishReport:
    if part is Part.FINISH:
        return finish(session)
    prepared = prepare(session)
    if not isinstance(prepared, Prepared):
        return prepared
    if part is Part.PREPARE:
        session.volume.leave(prepared)
        return session.report(ExitCode.DONE, "Prepared", f"the {prepared.kind.lower()} model is ready to be checked")
    return finish(session, prepared)
