"""`plan_deployment()`: everything the operator ever does about a ModelDeployment, as a pure function.

Each pass asks in this order: was the status lost, may the address be served, which model is wanted, is that what is
served or being let in, was it rejected. As for FineTuneJobs, a decision is stored alone and acted on by the pass that
has read it back.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from pydantic import ValidationError

from finetune_api.deployment_status import ModelDeploymentStatus, ModelSource, Stage
from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_api.revision import model_key, revision_name, trial_key
from finetune_operator.core.answer import answer
from finetune_operator.core.names import ANNOTATION_RETRY, Reason, checker_job, verifier_job
from finetune_operator.core.objects import is_deleting
from finetune_operator.core.plan import in_words
from finetune_operator.core.serving.conditions import conclude, describe
from finetune_operator.core.serving.draft import DeploymentDraft
from finetune_operator.core.serving.events import events
from finetune_operator.core.serving.rebuild import lost, rebuild
from finetune_operator.core.serving.rejection import asked_to, rejection, take_retry
from finetune_operator.core.serving.resolve import Waiting, resolve
from finetune_operator.core.serving.rollout import advance, begin, stable_lost, supersede
from finetune_operator.core.serving.steady import serve, step_draining, tidy
from finetune_operator.core.serving.traffic import refusal
from finetune_operator.core.serving.types import DeploymentObserved
from finetune_operator.core.types import Config, Plan

_CONFLICT_RETRY = 30.0
_WAITING_SECONDS = 30.0
Words = tuple[str, str]


def plan_deployment(observed: DeploymentObserved, now: datetime, config: Config) -> Plan:
    """Total, deterministic, idempotent: the same observation gives the same plan, a carried-out plan gives none."""
    md = observed.deployment
    if is_deleting(md):
        return Plan()
    before = ModelDeploymentStatus.model_validate(md.get("status") or {})
    try:
        spec = ModelDeploymentSpec.model_validate(md.get("spec") or {})
    except ValidationError as error:
        d = DeploymentDraft(md, before, now, config, observed, _placeholder())
        conclude(d, refused=(Reason.INVALID_SPEC, in_words(error)), rejected=None)  # changes nothing that runs
        return _answer(d, before)
    d = DeploymentDraft(md, before, now, config, observed, spec)
    refused, rejected = _advance(d)
    if not d.need_fresh and not d.intent:
        step_draining(d)
        tidy(d, _jobs(d))
    if not d.need_fresh:
        describe(d)
        conclude(d, refused=_conflicts(d) or refused, rejected=rejected)
    return _answer(d, before)


@lru_cache(maxsize=1)
def _placeholder() -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"model": {"uri": "file:///unset"}})


def _advance(d: DeploymentDraft) -> tuple[Words | None, Words | None]:
    """(why the spec cannot be followed, why what it asks for is not tried again)."""
    if lost(d):
        rebuild(d)
        if d.intent:
            return None, None
    take_retry(d)
    if d.intent:
        return None, None
    refused = refusal(d.spec, d.owner, d.config, d.observed.claims)
    d.address_refused = refused is not None
    wanted = resolve(d.spec, d.owner, d.observed.fine_tune_jobs, d.config)
    if refused is None and isinstance(wanted, Waiting):
        refused = (wanted.reason, wanted.message)
    if isinstance(wanted, Waiting):
        d.requeues.append(_WAITING_SECONDS)  # its words tell of a job's progress, which wakes nobody
        if d.status.rollout is not None:
            advance(d)
        else:
            _serve(d)
        return refused, None
    digest = wanted.digest or _known_digest(d, wanted)
    source = wanted.model_copy(update={"digest": digest})
    key = model_key(wanted.uri, wanted.digest, require_gate=d.spec.model.require_gate, secret=wanted.secret)
    revision = None if digest is None else revision_name(d.spec, digest, served_name=d.served_name)
    if d.status.rollout is not None:
        if not _still_wanted(d, key, revision):
            what = "the model or a serving field of the spec changed"
            if d.status.stable is not None and d.status.stable.revision == revision:
                what = f"the spec asks for stable revision {revision} again"
            supersede(d, what)
        if not d.intent:
            advance(d)
        return refused, None
    if d.status.stable is not None and d.status.stable.revision == revision:
        _serve(d)
        return refused, None
    held = rejection(d, (revision, key), trial_key(d.spec))
    if held is None and refused is None:
        refused = begin(d, source, key, revision)
        if not d.intent:
            _serve(d)
        return refused, None
    _serve(d)
    if held is None:
        return refused, None
    return refused, (
        held.reason,
        f"revision {held.revision} was rejected at {held.at}: {held.message}; change the spec, or try it again with "
        f"kubectl annotate modeldeployment {d.name} {ANNOTATION_RETRY}={held.revision} --overwrite",
    )


def _known_digest(d: DeploymentDraft, wanted: ModelSource) -> str | None:
    """Of a URI that was read before: a published model never changes."""
    rollout, stable, verified = d.status.rollout, d.status.stable, d.status.verification
    if rollout is not None and rollout.model.uri == wanted.uri and rollout.model.digest:
        return rollout.model.digest
    if stable is not None and stable.model == wanted.uri:
        return stable.digest
    key = model_key(wanted.uri, None, require_gate=d.spec.model.require_gate, secret=wanted.secret)
    return verified.digest if verified is not None and verified.key == key else None


def _still_wanted(d: DeploymentDraft, key: str, revision: str | None) -> bool:
    """By its name once it has one; until then by its model."""
    if d.rollout.stage is Stage.ROLLING_BACK:
        return True
    if d.rollout.revision is not None and revision is not None:
        return d.rollout.revision == revision
    return d.rollout.key == key


def _serve(d: DeploymentDraft) -> None:
    if d.status.stable is None:
        return
    if d.engine(d.status.stable.revision) is None:
        stable_lost(d)
        return
    serve(d)
    asked_to(d, "promote")
    asked_to(d, "abort")


def _jobs(d: DeploymentDraft) -> frozenset[str]:
    rollout = d.status.rollout
    if rollout is None:
        return frozenset()
    if rollout.stage is Stage.VERIFYING:
        return frozenset({verifier_job(d.name, rollout.key)})
    if rollout.stage is Stage.CHECKING and rollout.revision is not None:
        return frozenset({checker_job(d.name, rollout.revision)})
    return frozenset()


def _conflicts(d: DeploymentDraft) -> Words | None:
    if not d.observed.conflicts:
        return None
    d.requeues.append(_CONFLICT_RETRY)
    return Reason.NAME_CONFLICT, "; ".join(d.observed.conflicts[key] for key in sorted(d.observed.conflicts))


def _answer(d: DeploymentDraft, before: ModelDeploymentStatus) -> Plan:
    acts = not d.intent and (d.deletes or d.shrinks)
    if d.need_fresh or (acts and not d.observed.fresh):
        return Plan(need_fresh=True)
    return answer(d, before, events, scrape=d.scrape)
