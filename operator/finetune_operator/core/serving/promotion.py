"""The candidate becomes stable, what was stable drains: one status write."""

from __future__ import annotations

from finetune_api.deployment_status import HistoryEntry, ModelSource, RevisionStatus
from finetune_api.duration import parse_duration
from finetune_operator.core.names import Reason
from finetune_operator.core.serving.draft import DeploymentDraft


def promoted(d: DeploymentDraft) -> None:
    r, old = d.rollout, d.status.stable
    record = d.record(r.revision)
    assert record is not None
    d.remember(
        HistoryEntry(
            revision=record.revision,
            outcome="Promoted",
            reason=Reason.PROMOTED,
            message="every step and check passed" if old is not None else "the first revision; every check passed",
            model=r.model.uri,
            digest=r.model.digest,
            weight=100,
            started_at=r.started_at,
            finished_at=d.stamp,
        )
    )
    if old is not None:
        d.drain(old.revision, timeout=parse_duration(d.spec.rollout.drain_timeout))
    d.update(stable=revision_status(record.revision, r.model, record.image), canary=None, rollout=None, step=None)
    d.intent = True


def revision_status(revision: str, model: ModelSource, image: str) -> RevisionStatus:
    return RevisionStatus(revision=revision, model=model.uri, digest=model.digest or "", job=model.job, image=image)
