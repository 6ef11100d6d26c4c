"""A Job that answers one question: the verifier's and the checker's common life.

It is created, it ends, its pod's termination message is the answer. What may still turn out well (a Secret that is not
there yet, storage or an engine that does not answer, a pod that was taken away) is asked again; the Job is removed and
made anew under the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from finetune_api.exitcodes import ExitCode
from finetune_api.serveconfig import CheckReport, VerifyReport
from finetune_operator.core.names import Reason
from finetune_operator.core.objects import (
    condition,
    is_deleting,
    job_finished,
    name_of,
    owned_by,
    pending_cause,
    pod_over,
    terminated,
    uid_of,
)
from finetune_operator.core.reports import read_report
from finetune_operator.core.serving.draft import DeploymentDraft
from finetune_operator.core.types import JOBS, Obj

_RETRY_SECONDS = 15.0
_OURS = ("Engine", "Stable")
_AGAIN = (ExitCode.WAITING, ExitCode.STORAGE)
ReportT = TypeVar("ReportT", VerifyReport, CheckReport)


@dataclass(frozen=True)
class Answer(Generic[ReportT]):
    """`report` None: no answer yet, `reason` and `message` say why. `again`: it will be asked again by itself."""

    report: ReportT | None
    reason: str
    message: str
    again: bool = False

    @property
    def waiting(self) -> bool:
        """For something that a person or another controller brings; an engine that does not answer is not that."""
        return self.again and not self.reason.startswith(_OURS) and self.reason != Reason.TASK_FAILED


def ask(d: DeploymentDraft, name: str, build: Callable[[], Obj], model: type[ReportT]) -> Answer[ReportT]:
    job = next((j for j in d.observed.jobs if name_of(j) == name), None)
    if job is None:
        d.creates.append(build())
        return Answer(None, "", f"Job {name} is being made")
    if is_deleting(job):
        return Answer(None, "", f"Job {name} is being removed")
    pods = [p for p in d.observed.pods if owned_by(p, uid_of(job))]
    over = next((p for p in pods if pod_over(p, d.observed.gone_pods)), None)
    report = read_report(over, model) if over is not None else None
    if report is not None and report.exit_code not in _AGAIN:
        return Answer(report, report.reason, report.message)
    if over is None and not job_finished(job):
        cause = next((c for p in pods if (c := pending_cause(p)) is not None), None)
        if cause is not None:
            return Answer(None, cause[0], f"Job {name} cannot start: {cause[0]}: {cause[1]}")
        return Answer(None, "", f"Job {name} runs")
    if report is None and not d.observed.fresh:
        d.need_fresh = True  # the Job's event may have overtaken its pod's
        return Answer(None, "", "")
    if report is not None:
        reason, message = report.reason, report.message
    else:
        reason, message = Reason.TASK_FAILED, f"Job {name} ended without an answer{_how(over)}"
    if d.due_in(_ended(job, over), _RETRY_SECONDS) <= 0:
        d.remove(job, JOBS)
    return Answer(None, reason, message, again=True)


def _ended(job: Obj, pod: Obj | None) -> str:
    for kind in ("Complete", "Failed"):
        entry = condition(job, kind)
        if entry is not None and entry.get("lastTransitionTime"):
            return str(entry["lastTransitionTime"])
    ended = terminated(pod) if pod is not None else None
    return ended.finished_at if ended is not None and ended.finished_at else str(job["metadata"]["creationTimestamp"])


def _how(pod: Obj | None) -> str:
    ended = terminated(pod) if pod is not None else None
    return "" if ended is None else f": exit code {ended.exit_code} ({ended.reason})"
