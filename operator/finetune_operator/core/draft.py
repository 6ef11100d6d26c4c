"""The plan while it is being made: the policies read it and write to it, `plan()` turns it into a `Plan`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from finetune_api.deployment_status import ModelDeploymentStatus
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.status import (
    AttemptStatus,
    Condition,
    FineTuneJobStatus,
    PublishStatus,
)
from finetune_operator.core import times
from finetune_operator.core.objects import name_of
from finetune_operator.core.types import Config, Delete, MergePatch, Obj, Observed, Probe

_MESSAGE_LIMIT = 1024
StatusT = TypeVar("StatusT", FineTuneJobStatus, ModelDeploymentStatus)


@dataclass
class BaseDraft(Generic[StatusT]):
    """What both kinds' plans have in common."""

    owner: Obj
    """The object that is planned for."""
    status: StatusT
    now: datetime
    config: Config
    creates: list[Obj] = field(default_factory=list, kw_only=True)
    patches: list[MergePatch] = field(default_factory=list, kw_only=True)
    deletes: list[Delete] = field(default_factory=list, kw_only=True)
    requeues: list[float] = field(default_factory=list, kw_only=True)
    intent: bool = field(default=False, kw_only=True)
    """The status carries a decision that must be stored before anything is done about it."""
    need_fresh: bool = field(default=False, kw_only=True)

    @property
    def name(self) -> str:
        return name_of(self.owner)

    @property
    def namespace(self) -> str:
        return str(self.owner["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        return str(self.owner["metadata"]["uid"])

    @property
    def generation(self) -> int:
        return int(self.owner["metadata"].get("generation", 1))

    @property
    def stamp(self) -> str:
        return times.stamp(self.now)

    def elapsed(self, since: str) -> float:
        """Seconds since a timestamp; negative when it lies ahead."""
        return (self.now - times.parse(since)).total_seconds()

    def due_in(self, since: str, seconds: float) -> float:
        """Seconds until `since + seconds`; when that lies ahead, the plan asks to be made again then."""
        left = seconds - self.elapsed(since)
        if left > 0:
            self.requeues.append(left)
        return left

    def update(self, **changes: Any) -> None:
        self.status = self.status.model_copy(update=changes)

    def phase(self, phase: StrEnum, reason: str, message: str = "") -> None:
        self.update(phase=phase, reason=reason, message=message[:_MESSAGE_LIMIT] or None)

    def condition(self, kind: StrEnum, status: bool | None, reason: str, message: str = "") -> None:
        """None is Unknown. The transition time moves only when the status does."""
        text = {True: "True", False: "False", None: "Unknown"}[status]
        old = next((c for c in self.status.conditions if c.type == kind), None)
        new = Condition(
            type=kind.value,
            status=text,
            reason=reason,
            message=message[:_MESSAGE_LIMIT],
            observed_generation=self.generation,
            last_transition_time=(old.last_transition_time if old is not None and old.status == text else self.stamp),
        )
        if old is None:
            self.update(conditions=[*self.status.conditions, new])
        else:
            self.update(conditions=[new if c.type == kind else c for c in self.status.conditions])


@dataclass
class Draft(BaseDraft[FineTuneJobStatus]):
    """Of a FineTuneJob."""

    observed: Observed
    spec: FineTuneJobSpec
    probe: Probe | None = field(default=None, kw_only=True)

    @property
    def job(self) -> Obj:
        return self.owner

    def set_attempt(self, attempt: AttemptStatus) -> None:
        """Replace the attempt of the same index."""
        self.update(attempts=[attempt if a.index == attempt.index else a for a in self.status.attempts])

    def set_publish(self, publish: PublishStatus) -> None:
        self.update(publish=publish)

    def job_named(self, name: str) -> Obj | None:
        return next((job for job in self.observed.jobs if name_of(job) == name), None)
