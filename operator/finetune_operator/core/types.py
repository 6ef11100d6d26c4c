"""What `plan()` reads and what it answers.

Both are plain immutable values, so that a decision can be replayed from a log, tested from a table and crashed at every
write in the simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from finetune_api.reports import Progress

if TYPE_CHECKING:
    from finetune_operator.core.serving.types import Scrape

Obj = Mapping[str, Any]
"""A Kubernetes object as it is on the wire."""


@dataclass(frozen=True)
class Resource:
    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


FINETUNEJOBS = Resource("finetune.dev", "v1alpha1", "finetunejobs", "FineTuneJob")
JOBS = Resource("batch", "v1", "jobs", "Job")
PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
SECRETS = Resource("", "v1", "secrets", "Secret")
NETWORKPOLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
MODELDEPLOYMENTS = Resource("finetune.dev", "v1alpha1", "modeldeployments", "ModelDeployment")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
HTTPROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
EVENTS = Resource("", "v1", "events", "Event")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
BY_KIND = {
    r.kind: r
    for r in (
        FINETUNEJOBS,
        MODELDEPLOYMENTS,
        JOBS,
        PODS,
        SERVICES,
        SECRETS,
        NETWORKPOLICIES,
        NODES,
        DEPLOYMENTS,
        HTTPROUTES,
        EVENTS,
        LEASES,
    )
}


@dataclass(frozen=True)
class Config:
    """The installation: from the chart's values through the operator's environment and flags."""

    namespace: str
    """The operator's own."""
    trainer_image: str
    small_image: str
    artifacts_uri: str
    """Default place of run directories; empty: every job must say checkpoint.uri and output.uri."""
    artifacts_secret: str
    """Name of the Secret with the store's credentials in each job's namespace; empty: workload identity."""
    installation_key: bytes
    image_pull_policy: str = "IfNotPresent"
    network_policies: bool = True
    cluster_domain: str = "cluster.local"
    progress_write_seconds: float = 15.0
    poll_seconds: float = 2.0
    serving_image: str = ""
    """Default image of engine pods; empty: every ModelDeployment must set engine.image."""
    gateway: str = ""
    """`<namespace>/<name>` of the installation's Gateway; empty: every ModelDeployment must set traffic.parentRefs."""
    gateway_domain: str = ""
    """Hostnames default to `<name>.<namespace>.<this>`; empty: any host, and a path of its own."""
    hostname_patterns: tuple[str, ...] = ()
    """What tenants may claim, `*.{namespace}.models.example.com`; empty: only the default hostname."""
    gateway_api: bool = True
    """The cluster serves HTTPRoutes."""


@dataclass(frozen=True)
class Sample:
    """The newest answer of an attempt's pod 0, and since when polls fail (None: they do not)."""

    attempt: int
    progress: Progress | None
    failing_since: datetime | None = None


@dataclass(frozen=True)
class Observed:
    """One FineTuneJob and everything that bears on it, read at about one moment.

    `pods` includes pods that are already gone, as they were last seen, while their Job is known (`gone_pods` holds
    their uids): their exit codes are evidence. `conflicts` maps `Kind/name` to a sentence for objects of a name we
    want that belong to somebody else. `fresh` says that Jobs and pods were read from the API server for this plan,
    after the job itself, and not taken from watches.
    """

    job: Obj
    jobs: tuple[Obj, ...] = ()
    pods: tuple[Obj, ...] = ()
    gone_pods: frozenset[str] = frozenset()
    nodes: Mapping[str, Obj] = field(default_factory=dict)
    gang_service: Obj | None = None
    sample: Sample | None = None
    conflicts: Mapping[str, str] = field(default_factory=dict)
    fresh: bool = False


@dataclass(frozen=True)
class Delete:
    """Always with a uid precondition when the uid is known; a missing object is success."""

    resource: Resource
    namespace: str
    name: str
    uid: str | None
    foreground: bool = True


@dataclass(frozen=True)
class MergePatch:
    """A JSON merge patch that carries the resourceVersion it was made from."""

    resource: Resource
    namespace: str
    name: str
    body: Obj


@dataclass(frozen=True)
class EventNote:
    """A Kubernetes Event about the FineTuneJob, emitted after the status write succeeded."""

    type: str
    """Normal or Warning."""
    reason: str
    message: str


@dataclass(frozen=True)
class Probe:
    """Poll pod 0 of an attempt, or ask it for a checkpoint. `stop` None: only `GET /progress`."""

    attempt: int
    pod: str
    pod_uid: str
    ip: str
    token: str = field(repr=False)
    stop: str | None = None
    """A reason: `POST /checkpoint` with stop, once per reason and attempt until progress shows it arrived."""
    checkpoint: str | None = None
    """A reason: `POST /checkpoint` without stop, once."""


@dataclass(frozen=True)
class Plan:
    """What to do now. Executed in this order: status write, creates (in order, up to the first failure), patches,
    deletes, events. A failed or conflicting status write ends the pass before anything else happens.

    `creates` are POSTs: AlreadyExists is success when the object is controlled by this FineTuneJob, and a conflict in
    words otherwise. `need_fresh` means: read Jobs and pods from the API server and plan again, do nothing else.
    """

    status: Obj | None = None
    """The whole new status, None when it is unchanged."""
    creates: tuple[Obj, ...] = ()
    patches: tuple[MergePatch, ...] = ()
    deletes: tuple[Delete, ...] = ()
    events: tuple[EventNote, ...] = ()
    probe: Probe | None = None
    """Of a FineTuneJob."""
    scrape: Scrape | None = None
    """Of a ModelDeployment."""
    requeue_after: float | None = None
    """Seconds until the plan may change by time alone."""
    need_fresh: bool = False

    @property
    def writes(self) -> bool:
        return bool(self.status is not None or self.creates or self.patches or self.deletes)
