"""A candidate's way in: begun, verified, started, checked, stepped up, promoted, or taken back.

Each stage's facts are in `status.rollout`; each decision is stored alone and acted on by the pass that has read it
back, so that a crash leaves weights and pods as they were.
"""

from __future__ import annotations

from finetune_api.deployment_status import (
    HistoryEntry,
    ModelSource,
    RolloutStatus,
    Stage,
    Verification,
)
from finetune_api.duration import parse_duration
from finetune_api.revision import revision_name, trial_key
from finetune_api.serveconfig import CheckReport, VerifyReport
from finetune_operator.core.names import ANNOTATION_ABORT, Reason, checker_job, verifier_job
from finetune_operator.core.serving.builders.engine import engine_image, no_image_message
from finetune_operator.core.serving.builders.jobs import build_checker, build_verifier
from finetune_operator.core.serving.draft import DeploymentDraft
from finetune_operator.core.serving.rejection import REMEMBERED, asked_to, rejected, rejection
from finetune_operator.core.serving.routing import acceptance, canary_weight, out_of_patience, set_route
from finetune_operator.core.serving.starting import ensure_service, start_engines
from finetune_operator.core.serving.steady import serve
from finetune_operator.core.serving.stepping import step_up
from finetune_operator.core.serving.task import Answer, ask
from finetune_operator.core.types import HTTPROUTES

_WEIGHTLESS = (Stage.VERIFYING, Stage.STARTING, Stage.CHECKING)
"""May last as long as somebody lets it wait; stable is served as if nothing was being let in."""


def begin(d: DeploymentDraft, source: ModelSource, key: str, revision: str | None) -> tuple[str, str] | None:
    """Choose the candidate; (reason, message) of what the spec lacks for that."""
    image = engine_image(d.spec, d.config)
    if not image:
        return Reason.NO_SERVING_IMAGE, no_image_message()
    if not d.observed.fresh:
        d.need_fresh = True
        return None
    verified = d.status.verification
    d.update(
        rollout=RolloutStatus(
            key=key,
            revision=revision,
            model=source,
            trial=trial_key(d.spec),
            stage=Stage.STARTING if verified is not None and verified.key == key and revision else Stage.VERIFYING,
            image=image,
            started_at=d.stamp,
            stage_since=d.stamp,
        ),
        analysis=[],
        draining=[entry for entry in d.status.draining if entry.revision != revision],
    )
    d.say(Reason.VERIFYING, f"model {source.uri}")
    d.intent = True
    return None


def supersede(d: DeploymentDraft, message: str) -> None:
    if d.rollout.stage is not Stage.ROLLING_BACK:
        take_back(d, "Superseded", Reason.SUPERSEDED, message)


def take_back(d: DeploymentDraft, outcome: str, reason: str, message: str) -> None:
    d.decide(
        stage=Stage.ROLLING_BACK,
        stage_since=d.stamp,
        outcome=outcome,
        reason=reason,
        message=message[:1024],
    )


def advance(d: DeploymentDraft) -> None:
    r, stable = d.rollout, d.status.stable
    if stable is not None and r.stage is not Stage.ROLLING_BACK and d.engine(stable.revision) is None:
        stable_lost(d)
        return
    if stable is not None:
        if r.stage in _WEIGHTLESS:
            serve(d)
        else:
            ensure_service(d, stable.revision)
    if r.stage is not Stage.ROLLING_BACK and asked_to(d, "abort"):
        take_back(d, "Aborted", Reason.ABORTED, f"aborted by the annotation {ANNOTATION_ABORT} at step {r.step}")
        return
    match r.stage:
        case Stage.VERIFYING:
            _verify(d)
        case Stage.STARTING:
            failed = start_engines(d)
            if failed is not None:
                take_back(d, "RolledBack", *failed)
        case Stage.CHECKING:
            _check(d)
        case Stage.STEPPING | Stage.PROMOTING:
            failed = step_up(d)
            if failed is not None:
                take_back(d, "RolledBack", *failed)
        case Stage.ROLLING_BACK:
            _roll_back(d)


def stable_lost(d: DeploymentDraft) -> None:
    """Somebody deleted its Deployment; the pod template went with it. What is wanted now is let in as the first: a
    candidate that has weight already gets all of it, since nothing else answers."""
    if not d.observed.fresh:
        d.need_fresh = True
        return
    d.update(stable=None)
    d.intent = True
    if d.status.rollout is not None and d.rollout.stage is Stage.STEPPING:
        d.decide(stage=Stage.PROMOTING, weight=100, stage_since=d.stamp, step_since=None)


def _verify(d: DeploymentDraft) -> None:
    r = d.rollout
    answer = ask(
        d,
        verifier_job(d.name, r.key),
        lambda: build_verifier(d.owner, d.spec, r.model, r.key, d.config),
        VerifyReport,
    )
    if d.need_fresh:
        return
    report = answer.report
    if report is None:
        _unanswered(d, answer, Reason.VERIFYING, "verifying the model")
        return
    if report.exit_code != 0 or report.digest is None:
        take_back(d, "RolledBack", report.reason, report.message)
        return
    d.update(
        verification=Verification(
            key=r.key,
            digest=report.digest,
            gate_passed=report.gate_passed,
            files=report.files,
            bytes=report.bytes,
            at=d.stamp,
        )
    )
    revision = revision_name(d.spec, report.digest, served_name=d.served_name)
    stable = d.status.stable
    served = stable is not None and stable.revision == revision
    if served or rejection(d, (revision,), trial_key(d.spec)) is not None:
        # Only now it has a name: it is served already, or was tried before.
        d.update(rollout=None, canary=None, step=None)
        d.intent = True
        return
    d.decide(
        stage=Stage.STARTING,
        stage_since=d.stamp,
        revision=revision,
        model=r.model.model_copy(update={"digest": report.digest}),
    )


def _check(d: DeploymentDraft) -> None:
    r = d.rollout
    record = d.record(r.revision)
    if record is None:
        d.decide(stage=Stage.STARTING, stage_since=d.stamp)
        return
    stable = d.record(d.status.stable.revision) if d.status.stable is not None else None
    answer = ask(
        d,
        checker_job(d.name, record.revision),
        lambda: build_checker(d.owner, d.spec, record, stable, d.config),
        CheckReport,
    )
    if d.need_fresh:
        return
    failed = start_engines(d, checking=True)
    if failed is not None:
        take_back(d, "RolledBack", *failed)
        return
    report = answer.report
    if report is None:
        _unanswered(d, answer, Reason.CHECKING, "asking the candidate")
    elif report.exit_code != 0:
        take_back(d, "RolledBack", report.reason, report.message)
    else:
        first = not d.status.stable or not d.spec.rollout.steps
        d.decide(
            stage=Stage.PROMOTING if first else Stage.STEPPING,
            stage_since=d.stamp,
            step=len(d.spec.rollout.steps) if first else 1,
            weight=100 if first else d.spec.rollout.steps[0].weight,
            step_since=None,
            exposed_at=d.stamp,
        )


def _unanswered(d: DeploymentDraft, answer: Answer[VerifyReport] | Answer[CheckReport], reason: str, what: str) -> None:
    """A Secret that is missing is waited for without end, what fails until `progressDeadline`; a Job that runs has a
    deadline of its own."""
    limit = parse_duration(d.spec.rollout.progress_deadline)
    if answer.reason and not answer.waiting and d.due_in(d.rollout.stage_since, limit) <= 0:
        take_back(
            d,
            "RolledBack",
            answer.reason,
            f"{what} took longer than {d.spec.rollout.progress_deadline} (rollout.progressDeadline): {answer.message}",
        )
        return
    d.say(answer.reason or reason, f"{what}: {answer.message}")


def _roll_back(d: DeploymentDraft) -> None:
    """Weight 0 first; what happened is written down, and the candidate drains, when no request goes there any more:
    when every Gateway took weight 0 over. One that never says so is not waited for without end."""
    r, stable = d.rollout, d.status.stable
    d.say(r.reason or Reason.ROLLING_BACK, r.message or "")
    if stable is not None:
        d.scale(stable.revision, d.spec.replicas)
        if not set_route(d, 0) or canary_weight(d):
            return
        taken = acceptance(d)
        if r.highest and not taken.ok and not out_of_patience(d):
            d.say(r.reason or Reason.ROLLING_BACK, f"{r.message}; until weight 0 holds: {taken.message}")
            return
    elif d.observed.route is not None:
        d.remove(d.observed.route, HTTPROUTES)
        return
    outcome = r.outcome or "RolledBack"
    d.remember(
        HistoryEntry(
            revision=r.revision or r.key,
            outcome=outcome,
            reason=r.reason or outcome,
            message=(r.message or "")[:1024],
            model=r.model.uri,
            digest=r.model.digest,
            weight=r.highest,
            started_at=r.started_at,
            finished_at=d.stamp,
        )
    )
    if r.revision is not None and d.engine(r.revision) is not None:
        rollout = d.spec.rollout
        d.drain(
            r.revision,
            timeout=min(parse_duration(rollout.drain_timeout), parse_duration(rollout.stall_timeout)),
            hold=parse_duration(rollout.abort.scale_down_delay) if outcome in REMEMBERED else 0.0,
        )
    d.update(rollout=None, canary=None, step=None, rejected=rejected(d))
    d.intent = True
