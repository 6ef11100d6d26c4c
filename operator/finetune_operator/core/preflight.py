"""From the preflight pod's last words to an accepted spec, a wait, or a refusal in words.

What may still arrive is asked for again from 5 to 60 s; what is wrong in the spec or the data stays refused until the
spec changes.
"""

from __future__ import annotations

from finetune_api.exitcodes import ExitCode
from finetune_api.reports import PreflightReport
from finetune_api.runkey import frozen_digest
from finetune_api.status import ConditionType, Phase, PreflightStatus, Resolved
from finetune_operator.core.builders.preflight import build_preflight
from finetune_operator.core.builders.runconfig import runs_uri
from finetune_operator.core.draft import Draft
from finetune_operator.core.names import ANNOTATION_GENERATION, LABEL_ROLE, ROLE_PREFLIGHT, Reason
from finetune_operator.core.objects import (
    is_deleting,
    labels_of,
    name_of,
    pending_cause,
    pod_over,
    terminated,
    uid_of,
)
from finetune_operator.core.reports import read_report
from finetune_operator.core.times import stamp
from finetune_operator.core.types import PODS, Delete, Obj

_FIRST_RETRY, _LONGEST_RETRY = 5.0, 60.0
_FINAL = (ExitCode.INVALID_SPEC, ExitCode.DATA_INVALID)


def retry_delay(tries: int) -> float:
    """5, 10, 20, 40, then 60 seconds."""
    return float(min(_LONGEST_RETRY, _FIRST_RETRY * 2 ** min(max(0, tries - 1), 10)))


def step_preflight(d: Draft) -> bool:
    """Advance until `status.resolved` is set; True when this plan set it."""
    pod = _pod(d)
    if pod is not None and pod.get("metadata", {}).get("annotations", {}).get(ANNOTATION_GENERATION) != str(
        d.generation
    ):
        _remove(d, pod)
        _waiting(d)
        return False
    last = d.status.preflight
    if pod is not None and pod_over(pod, d.observed.gone_pods) and (last is None or last.pod_uid != uid_of(pod)):
        return _fold(d, pod)
    if d.spec.suspend:
        if pod is not None:
            _remove(d, pod)
        d.phase(Phase.SUSPENDED, Reason.SUSPENDED, "spec.suspend is true; nothing has been started")
        return False
    if last is not None and last.generation == d.generation and last.exit_code is not None:
        if last.exit_code in _FINAL:
            return False
        if pod is not None and uid_of(pod) != last.pod_uid:
            return False
        if last.finished_at and d.due_in(last.finished_at, retry_delay(last.tries)) > 0:
            return False
        if pod is not None and uid_of(pod) not in d.observed.gone_pods:
            _remove(d, pod)
            return False
    elif pod is not None and uid_of(pod) not in d.observed.gone_pods:
        _waiting(d, pod)
        return False
    d.creates.append(build_preflight(d.job, d.spec, d.config))
    if last is None or last.generation != d.generation:
        _waiting(d)
    return False


def _pod(d: Draft) -> Obj | None:
    pods = [p for p in d.observed.pods if labels_of(p).get(LABEL_ROLE) == ROLE_PREFLIGHT]
    living = [p for p in pods if uid_of(p) not in d.observed.gone_pods]
    if living:
        return living[-1]
    unread = [p for p in pods if d.status.preflight is None or d.status.preflight.pod_uid != uid_of(p)]
    return unread[-1] if unread else None


def _remove(d: Draft, pod: Obj) -> None:
    if not is_deleting(pod) and uid_of(pod) not in d.observed.gone_pods:
        d.deletes.append(Delete(PODS, d.namespace, name_of(pod), uid_of(pod), foreground=False))


def _waiting(d: Draft, pod: Obj | None = None) -> None:
    cause = pending_cause(pod) if pod is not None else None
    message = "checking storage, data and model with the job's own credentials"
    if cause is not None:
        message = f"the preflight pod cannot start: {cause[0]}: {cause[1]}"
    d.phase(Phase.PENDING, Reason.PREFLIGHT, message)
    d.condition(ConditionType.ACCEPTED, None, Reason.PREFLIGHT, message)


def _report(pod: Obj) -> PreflightReport:
    report = read_report(pod, PreflightReport)
    if report is not None:
        return report
    ended = terminated(pod)
    code = ended.exit_code if ended is not None else int(ExitCode.FAILED)
    cause = f"exit code {code}, {ended.reason}" if ended is not None else "it was removed before it ended"
    return PreflightReport(
        exit_code=code if code not in (0, *_FINAL) else int(ExitCode.FAILED),
        reason=Reason.PREFLIGHT_FAILED,
        message=f"the preflight pod {name_of(pod)} left no report ({cause}); see its log. It is tried again.",
        at="",
    )


def _fold(d: Draft, pod: Obj) -> bool:
    report = _report(pod)
    last = d.status.preflight
    same = last is not None and last.generation == d.generation
    tries = (last.tries if last is not None and same else 0) + 1
    ended = terminated(pod)
    finished = (ended.finished_at if ended is not None else None) or stamp(d.now)
    d.update(
        preflight=PreflightStatus(
            tries=0 if report.exit_code == ExitCode.DONE else tries,
            generation=d.generation,
            pod_uid=uid_of(pod),
            exit_code=report.exit_code,
            reason=report.reason,
            field=report.field,
            message=report.message,
            finished_at=finished,
            sampled_records=report.sampled_records,
            warnings=report.warnings,
        )
    )
    where = f"{report.field}: " if report.field and not report.message.startswith(report.field) else ""
    message = where + report.message
    if (
        report.exit_code == ExitCode.DONE
        and report.run_key is not None
        and report.model_revision is not None
        and report.data_fingerprint is not None
    ):
        d.update(
            estimate=report.estimate,
            resolved=Resolved(
                model_revision=report.model_revision,
                data_fingerprint=report.data_fingerprint,
                teacher_revision=report.teacher_revision,
                pins=report.pins or None,
                run_key=report.run_key,
                run_uri=f"{runs_uri(d.job, d.spec, d.config)}/{report.run_key}",
                image=d.spec.trainer.image or d.config.trainer_image,
                frozen_digest=frozen_digest(d.spec),
                highest_fence=report.highest_fence,
            ),
            output=report.published,
        )
        d.condition(ConditionType.ACCEPTED, True, Reason.ACCEPTED, report.message)
        d.intent = True
        return True
    if report.exit_code in _FINAL:
        d.phase(Phase.FAILED, report.reason, message)
        d.condition(ConditionType.FAILED, True, report.reason, message)
    else:
        d.phase(Phase.PENDING, report.reason, message)
        d.requeues.append(retry_delay(tries))
    d.condition(ConditionType.ACCEPTED, False, report.reason, message)
    return False
