"""The kinds that the fake serves, and how each differs from the default behaviour of the API server."""

from __future__ import annotations

from dataclasses import dataclass, field

from .fieldset import Path
from .schemas import Type, builtin
from .strategies import Strategy, apps, jobs, objects, pods, services


@dataclass(frozen=True)
class Scale:
    """Where `/scale` finds its three values. A selector path: of a custom resource, whose status has it as a string."""

    replicas: tuple[str, ...] = ("spec", "replicas")
    status_replicas: tuple[str, ...] = ("status", "replicas")
    selector: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resource:
    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    generation: bool = False
    create_on_update: bool = False
    unconditional_update: bool = True
    returns_deleted: bool = False
    orphans_by_default: bool = False
    graceful: bool = False
    collects_garbage: bool = True
    custom: bool = False
    scale: Scale | None = None
    strategy: Strategy = field(default_factory=Strategy)
    schema: Type | None = None

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources

    @property
    def type(self) -> Type:
        return self.schema if self.schema is not None else builtin(self.group, self.kind)

    def reset(self, subresource: str) -> tuple[Path, ...]:
        """The fields that an endpoint ignores, and whose ownership it therefore never records."""
        if subresource == "status":
            if self.custom:
                return (("f:metadata",), ("f:spec",))
            if self.kind == "Pod":
                return (
                    ("f:spec",),
                    ("f:metadata", "f:deletionTimestamp"),
                    ("f:metadata", "f:ownerReferences"),
                )
            return (("f:spec",),)
        return (("f:status",),) if self.has_status else ()


_STATUS = ("status",)

BUILTIN: tuple[Resource, ...] = (
    Resource("", "v1", "namespaces", "Namespace", False, ("ns",), subresources=_STATUS, returns_deleted=True),
    Resource("", "v1", "nodes", "Node", False, ("no",), subresources=_STATUS),
    Resource("", "v1", "configmaps", "ConfigMap", short_names=("cm",), strategy=objects.ConfigMaps()),
    Resource("", "v1", "secrets", "Secret", strategy=objects.Secrets()),
    Resource("", "v1", "serviceaccounts", "ServiceAccount", short_names=("sa",), returns_deleted=True),
    Resource(
        "",
        "v1",
        "persistentvolumeclaims",
        "PersistentVolumeClaim",
        short_names=("pvc",),
        subresources=_STATUS,
        returns_deleted=True,
    ),
    Resource(
        "",
        "v1",
        "services",
        "Service",
        short_names=("svc",),
        subresources=_STATUS,
        create_on_update=True,
        returns_deleted=True,
        strategy=services.Services(),
    ),
    Resource(
        "",
        "v1",
        "events",
        "Event",
        short_names=("ev",),
        create_on_update=True,
        collects_garbage=False,
        strategy=objects.Events(),
    ),
    Resource(
        "",
        "v1",
        "pods",
        "Pod",
        short_names=("po",),
        categories=("all",),
        subresources=("status", "binding", "eviction"),
        generation=True,
        returns_deleted=True,
        graceful=True,
        strategy=pods.Pods(),
    ),
    Resource(
        "batch",
        "v1",
        "jobs",
        "Job",
        categories=("all",),
        subresources=_STATUS,
        generation=True,
        orphans_by_default=True,
        strategy=jobs.Jobs(),
    ),
    Resource(
        "coordination.k8s.io",
        "v1",
        "leases",
        "Lease",
        create_on_update=True,
        unconditional_update=False,
        strategy=objects.Leases(),
    ),
    Resource(
        "apps",
        "v1",
        "deployments",
        "Deployment",
        short_names=("deploy",),
        categories=("all",),
        subresources=("status", "scale"),
        generation=True,
        scale=Scale(),
        strategy=apps.Deployments(),
    ),
    Resource(
        "apps",
        "v1",
        "replicasets",
        "ReplicaSet",
        short_names=("rs",),
        categories=("all",),
        subresources=("status", "scale"),
        generation=True,
        scale=Scale(),
        strategy=apps.ReplicaSets(),
    ),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", short_names=("netpol",), generation=True),
    Resource(
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        short_names=("pdb",),
        subresources=_STATUS,
        generation=True,
        unconditional_update=False,
    ),
    Resource(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        False,
        ("crd",),
        subresources=_STATUS,
        generation=True,
        unconditional_update=False,
    ),
)
