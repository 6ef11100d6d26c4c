"""What `plan_deployment()` reads and asks for, beside what both kinds share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from finetune_operator.core.serving.analysis.totals import Totals
from finetune_operator.core.types import Obj


@dataclass(frozen=True)
class Target:
    """One engine pod to scrape, and to send a synthetic request to."""

    pod: str
    uid: str
    ip: str
    revision: str
    served_name: str


@dataclass(frozen=True)
class Scrape:
    """Look at these engines every `interval` seconds. `window` names the analysis: sums begin anew when it changes;
    `step` does the same for the step's sums only."""

    window: str
    step: str
    interval: float
    targets: tuple[Target, ...]
    synthetic: bool = True
    """One completion of one token per pod and interval."""
    timeout: float = 60.0
    """Of the synthetic request, in seconds."""


@dataclass(frozen=True)
class EngineView:
    """What is known of one engine pod from the outside."""

    revision: str
    failed_scrapes: int = 0
    """In a row."""
    running: int = 0
    waiting: int = 0
    busy_since: datetime | None = None
    """Requests run since then and none of them ended; None: idle, or something ended at the last look."""
    synthetic_error: str | None = None
    """How the newest synthetic request failed, in words; None: it was answered, or none was sent yet."""
    scraped_at: datetime | None = None


@dataclass(frozen=True)
class Engines:
    """The scraper's answer for one ModelDeployment. `totals` and `step_totals` are by revision and leave synthetic
    requests out of `requests` where they can be told apart."""

    window: str
    step: str
    since: datetime
    totals: Mapping[str, Totals] = field(default_factory=dict)
    step_totals: Mapping[str, Totals] = field(default_factory=dict)
    pods: Mapping[str, EngineView] = field(default_factory=dict)
    """By pod uid."""
    looks: int = 0
    """Rounds in this window."""


@dataclass(frozen=True)
class Claim:
    """A host and path that another ModelDeployment serves."""

    owner: str
    """`<namespace>/<name>`."""
    created: str
    """creationTimestamp: the older one keeps the address."""


@dataclass(frozen=True)
class DeploymentObserved:
    """One ModelDeployment and everything that bears on it, read at about one moment."""

    deployment: Obj
    """The ModelDeployment."""
    children: tuple[Obj, ...] = ()
    """apps/v1 Deployments that it controls."""
    services: tuple[Obj, ...] = ()
    route: Obj | None = None
    """The HTTPRoute of its name, when it controls it."""
    jobs: tuple[Obj, ...] = ()
    """Verifier and checker Jobs that it controls."""
    pods: tuple[Obj, ...] = ()
    """Of its Deployments and Jobs; those already gone as they were last seen (see `gone_pods`)."""
    gone_pods: frozenset[str] = frozenset()
    fine_tune_jobs: tuple[Obj, ...] = ()
    """The referenced FineTuneJob, or every match of the selector."""
    claims: Mapping[tuple[str, str], Claim] = field(default_factory=dict)
    """(hostname or "", path) -> who else serves it. Only of ModelDeployments other than this one."""
    engines: Engines | None = None
    conflicts: Mapping[str, str] = field(default_factory=dict)
    fresh: bool = False
    """Read from the API server for this plan."""
