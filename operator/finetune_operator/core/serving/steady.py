"""What is served stays as wanted; what left finishes its requests, goes to 0 replicas, and is forgotten in time."""

from __future__ import annotations

from finetune_api.deployment_status import Drain, RevisionRecord
from finetune_api.duration import parse_duration
from finetune_operator.core import times
from finetune_operator.core.names import LABEL_REVISION
from finetune_operator.core.objects import is_deleting, labels_of, name_of, uid_of
from finetune_operator.core.serving.builders.engine import parse_record
from finetune_operator.core.serving.draft import DeploymentDraft, pod_ready, wanted_replicas
from finetune_operator.core.serving.routing import set_route
from finetune_operator.core.serving.starting import ensure_service
from finetune_operator.core.serving.types import Scrape, Target
from finetune_operator.core.types import DEPLOYMENTS, JOBS, SERVICES

_SETTLE_SECONDS = 10.0
"""Gateways and kube-proxy need a moment to stop sending; only then an idle engine is an idle engine."""
_LOOK_SECONDS = 2.0


def serve(d: DeploymentDraft) -> None:
    """Nothing is being let in: stable at its size, all weight on it."""
    stable = d.status.stable
    if stable is None:
        return
    d.scale(stable.revision, d.spec.replicas)
    ensure_service(d, stable.revision)
    set_route(d, 0)


def step_draining(d: DeploymentDraft) -> None:
    left = []
    targets: list[Target] = []
    for entry in d.status.draining:
        child = d.engine(entry.revision)
        if child is None or is_deleting(child):
            continue
        if wanted_replicas(child) == 0:
            if d.pods(entry.revision):
                left.append(entry)
            continue
        left.append(entry)
        if _over(d, entry):
            d.scale(entry.revision, 0)
        else:
            targets += d.targets(entry.revision)
    if left != d.status.draining:
        d.update(draining=left)
    if targets and d.scrape is None:
        d.scrape = Scrape(
            window="drain", step="drain", interval=_LOOK_SECONDS, targets=tuple(targets), synthetic=False, timeout=5.0
        )


def _over(d: DeploymentDraft, entry: Drain) -> bool:
    if d.due_in(entry.since, entry.hold_seconds) > 0:
        return False
    if d.due_in(entry.since, entry.hold_seconds + entry.timeout_seconds) <= 0:
        return True
    if d.due_in(entry.since, entry.hold_seconds + _SETTLE_SECONDS) > 0:
        return False
    pods = [pod for pod in d.pods(entry.revision) if pod_ready(pod)]
    views = d.observed.engines.pods if d.observed.engines is not None else {}
    seen = [views.get(uid_of(pod)) for pod in pods]
    d.requeues.append(_LOOK_SECONDS)
    return all(
        view is not None
        and view.failed_scrapes == 0
        and view.running + view.waiting == 0
        and view.scraped_at is not None
        and (view.scraped_at - times.parse(entry.since)).total_seconds() >= _SETTLE_SECONDS
        for view in seen
    )


def tidy(d: DeploymentDraft, jobs_wanted: frozenset[str]) -> None:
    """Jobs that answered, revisions beyond `history`, engines nobody accounts for."""
    for job in d.observed.jobs:
        if name_of(job) not in jobs_wanted:
            d.remove(job, JOBS)
    _tidy_revisions(d)


def _tidy_revisions(d: DeploymentDraft) -> None:
    used = {entry.revision for entry in d.status.draining}
    if d.status.stable is not None:
        used.add(d.status.stable.revision)
    if d.status.rollout is not None and d.status.rollout.revision is not None:
        used.add(d.status.rollout.revision)
    former: list[RevisionRecord] = []
    for child in d.observed.children:
        record = parse_record(child)
        if record is None or record.revision in used or is_deleting(child):
            continue
        if wanted_replicas(child):
            d.drain(record.revision, timeout=parse_duration(d.spec.rollout.drain_timeout))
            used.add(record.revision)
            continue
        former.append(record)
    former.sort(key=lambda record: (record.created_at, record.revision), reverse=True)
    gone = former[d.spec.rollout.history :]
    for record in gone:
        leaving = d.engine(record.revision)
        if leaving is not None:
            d.remove(leaving, DEPLOYMENTS)
    kept = {record.revision for record in former} - {record.revision for record in gone} | used
    for service in d.observed.services:
        if labels_of(service).get(LABEL_REVISION) not in kept:
            d.remove(service, SERVICES)
