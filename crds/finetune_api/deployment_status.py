"""`ModelDeployment.status`: what is served, what is being let in, and why something was not.

The few facts a pass cannot derive again stand here: which candidate was chosen, its stage, step and since when. What
must survive a lost status stands in annotations of the route and the Deployments as well (`RevisionRecord`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from finetune_api.status import Condition, Long, Message, Short, StatusModel, Time

MAX_HISTORY = 20
MAX_REJECTED = 20


class DeploymentPhase(StrEnum):
    PENDING = "Pending"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    HEALTHY = "Healthy"
    ROLLING_BACK = "RollingBack"
    DEGRADED = "Degraded"


class DeploymentCondition(StrEnum):
    ACCEPTED = "Accepted"
    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class ModelSource(StatusModel):
    """A model and where its bytes are: chosen once per rollout."""

    uri: Long
    digest: Short | None = None
    """Unknown for `model.uri` until the verifier read the manifest."""
    secret: Short | None = None
    job: Short | None = None
    """The FineTuneJob it came from."""


class RevisionRecord(StatusModel):
    """Annotation `finetune.dev/record` of a revision's Deployment: enough to rebuild its place in status."""

    format: int = 1
    revision: Short
    model: ModelSource
    image: Long
    served_name: Short
    created_at: Time


class RevisionStatus(StatusModel):
    revision: Short
    model: Long
    digest: Short
    job: Short | None = None
    image: Long
    replicas: int = 0
    ready_replicas: int = 0
    weight: int = 0
    observed_weight: int | None = None
    """Percent of requests the engines counted in this step; absent while there are too few."""


class Stage(StrEnum):
    VERIFYING = "Verifying"
    STARTING = "Starting"
    CHECKING = "Checking"
    STEPPING = "Stepping"
    PROMOTING = "Promoting"
    ROLLING_BACK = "RollingBack"


class RolloutStatus(StatusModel):
    """The candidate that is being let in."""

    key: Short
    """`model_key` of the candidate."""
    revision: Short | None = None
    """Unknown until the digest is."""
    model: ModelSource
    trial: Short
    stage: Stage
    image: Long | None = None
    """Resolved once, when the rollout begins."""
    step: int = 0
    """0: before the first step; k: the k-th of `steps`, counted from 1."""
    weight: int = 0
    """The weight of this step; the route may be on its way there."""
    started_at: Time
    stage_since: Time
    step_since: Time | None = None
    """Since when this step counts: weight reached and accepted by every parent."""
    inconclusive_since: Time | None = None
    exposed_at: Time | None = None
    """Since when it may get requests; an engine that ends after this takes it back."""
    highest: int = 0
    """The most weight the route gave it."""
    reason: Short | None = None
    message: Message | None = None
    """Why it is rolled back."""
    outcome: Short | None = None
    """With stage RollingBack: RolledBack, Aborted or Superseded."""


class Drain(StatusModel):
    """A revision that gets no more requests and finishes those it has."""

    revision: Short
    since: Time
    timeout_seconds: float
    hold_seconds: float = 0.0
    """It stays this long at weight 0 before that, for a look at it."""


class VerdictStatus(StatusModel):
    metric: Short
    decision: Short
    """Pass, Fail or Inconclusive."""
    stable: float | None = None
    canary: float | None = None
    stable_samples: int | None = None
    canary_samples: int | None = None
    message: Message = ""


class HistoryEntry(StatusModel):
    revision: Short
    outcome: Short
    """Promoted, RolledBack, Superseded or Aborted."""
    reason: Short
    message: Message = ""
    model: Long
    digest: Short | None = None
    weight: int = 0
    """The highest it had."""
    started_at: Time
    finished_at: Time


class Rejection(StatusModel):
    """Not tried again until analysis or verification change, or the annotation finetune.dev/retry names it."""

    revision: Short
    """The revision's name, or the model's key when it was refused before it had one."""
    trial: Short
    reason: Short
    message: Message = ""
    at: Time


class Verification(StatusModel):
    """The newest verifier's answer."""

    key: Short
    digest: Short
    gate_passed: bool | None = None
    files: int = 0
    bytes: int = 0
    at: Time


class Handled(StatusModel):
    """Values of annotations that were acted on or answered, so that each is looked at once."""

    promote: Short | None = None
    abort: Short | None = None
    retry: Short | None = None


class ModelDeploymentStatus(StatusModel):
    observed_generation: int | None = None
    phase: DeploymentPhase | None = None
    reason: Short | None = None
    message: Message | None = None
    stable: RevisionStatus | None = None
    canary: RevisionStatus | None = None
    step: Short | None = None
    """`2/3`."""
    ready: Short | None = None
    """`2/2`: ready engine pods of wanted ones."""
    replicas: int | None = None
    """For the scale subresource: engine pods of the stable revision."""
    selector: Short | None = None
    url: Long | None = None
    rollout: RolloutStatus | None = None
    draining: list[Drain] = []
    verification: Verification | None = None
    analysis: list[VerdictStatus] = []
    history: Annotated[list[HistoryEntry], Field(max_length=MAX_HISTORY)] = []
    rejected: Annotated[list[Rejection], Field(max_length=MAX_REJECTED)] = []
    handled: Handled = Handled()
    conditions: list[Condition] = []
