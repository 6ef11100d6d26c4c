"""A ModelDeployment's plan while it is being made, and the questions every policy asks of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from finetune_api.deployment_status import (
    MAX_HISTORY,
    DeploymentPhase,
    Drain,
    HistoryEntry,
    ModelDeploymentStatus,
    RevisionRecord,
    RolloutStatus,
)
from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_operator.core.draft import BaseDraft
from finetune_operator.core.names import LABEL_REVISION, revision_object
from finetune_operator.core.objects import has_condition, is_deleting, labels_of, name_of, pod_ip, uid_of
from finetune_operator.core.serving.builders.engine import parse_record
from finetune_operator.core.serving.types import DeploymentObserved, Scrape, Target
from finetune_operator.core.types import DEPLOYMENTS, Delete, MergePatch, Obj, Resource


@dataclass
class DeploymentDraft(BaseDraft[ModelDeploymentStatus]):
    observed: DeploymentObserved
    spec: ModelDeploymentSpec
    scrape: Scrape | None = field(default=None, kw_only=True)
    address_refused: bool = field(default=False, kw_only=True)
    """Hostnames, path or Gateway of the spec may not be served: the route keeps those it has."""
    shrinks: bool = field(default=False, kw_only=True)
    """Engine pods are taken away: decided on a fresh read only."""

    @property
    def replicas(self) -> int:
        """Wanted engine pods of the revision that serves; while one is let in, there is at least one to look at."""
        return self.spec.replicas if self.status.rollout is None else max(1, self.spec.replicas)

    @property
    def served_name(self) -> str:
        return self.spec.model.served_name or self.name

    @property
    def rollout(self) -> RolloutStatus:
        """Only while there is one."""
        assert self.status.rollout is not None
        return self.status.rollout

    def say(self, reason: str, message: str) -> None:
        """What the rollout does now."""
        self.phase(DeploymentPhase.PROGRESSING, reason, message)

    def set_rollout(self, **changes: object) -> None:
        self.update(rollout=self.rollout.model_copy(update=changes))

    def decide(self, **changes: object) -> None:
        """Change the rollout's facts: stored alone, acted on by the pass that has read it back."""
        self.set_rollout(**changes)
        self.intent = True

    def remember(self, entry: HistoryEntry) -> None:
        self.update(history=[*self.status.history, entry][-MAX_HISTORY:])

    def engine(self, revision: str | None) -> Obj | None:
        """The Deployment of a revision."""
        if revision is None:
            return None
        name = revision_object(self.name, revision)
        return next((c for c in self.observed.children if name_of(c) == name), None)

    def record(self, revision: str | None) -> RevisionRecord | None:
        found = self.engine(revision)
        return None if found is None else parse_record(found)

    def pods(self, revision: str | None) -> list[Obj]:
        """Its living engine pods."""
        return [
            p
            for p in self.observed.pods
            if revision is not None
            and labels_of(p).get(LABEL_REVISION) == revision
            and uid_of(p) not in self.observed.gone_pods
            and engine_of(p)
        ]

    def ready(self, revision: str | None) -> int:
        return sum(pod_ready(p) for p in self.pods(revision))

    def targets(self, revision: str | None) -> list[Target]:
        """Its engines that can be looked at."""
        record = self.record(revision)
        return [
            Target(name_of(pod), uid_of(pod), ip, record.revision, record.served_name)
            for pod in self.pods(revision)
            if record is not None and (ip := pod_ip(pod)) and pod_ready(pod)
        ]

    def scale(self, revision: str | None, replicas: int) -> None:
        child = self.engine(revision)
        if child is None or is_deleting(child) or wanted_replicas(child) == replicas:
            return
        self.shrinks = self.shrinks or replicas < wanted_replicas(child)
        meta = child["metadata"]
        body = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "spec": {"replicas": replicas}}
        self.patches.append(MergePatch(DEPLOYMENTS, self.namespace, meta["name"], body))

    def drain(self, revision: str, *, timeout: float, hold: float = 0.0) -> None:
        kept = [entry for entry in self.status.draining if entry.revision != revision]
        self.update(
            draining=[*kept, Drain(revision=revision, since=self.stamp, timeout_seconds=timeout, hold_seconds=hold)]
        )

    def remove(self, obj: Obj, resource: Resource) -> None:
        if not is_deleting(obj):
            self.deletes.append(Delete(resource, self.namespace, name_of(obj), uid_of(obj)))


def engine_of(pod: Obj) -> bool:
    """An engine's pod, not one of a Job of that revision."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(ref.get("kind") == "ReplicaSet" and ref.get("controller") for ref in owners)


def pod_ready(pod: Obj) -> bool:
    return not is_deleting(pod) and has_condition(pod, "Ready")


def wanted_replicas(deployment: Obj) -> int:
    return int((deployment.get("spec") or {}).get("replicas", 1))
