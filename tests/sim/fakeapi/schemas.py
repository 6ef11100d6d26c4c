"""How server-side apply sees each type: which lists have keys, which maps are one value, which are many.

Only what differs from the default is written down. The default for a field of a known kind is: an object is a
struct whose fields are owned one by one, a list is one value (atomic). The table is compared with the schema that
a real API server serves in `tests/apiserver`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any


@dataclass(frozen=True, eq=False)
class Atomic:
    """One value: owned as a whole."""


@dataclass(frozen=True, eq=False)
class Struct:
    """Named fields. A field that is not listed is a plain struct, list or scalar by its value."""

    fields: Mapping[str, Type] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MapOf:
    """String keys, each owned separately and a member of the set itself."""

    elem: Type


@dataclass(frozen=True, eq=False)
class ListMap:
    """A list whose items are found by keys: (field, default)."""

    keys: tuple[tuple[str, Any], ...]
    elem: Type


@dataclass(frozen=True, eq=False)
class SetOf:
    """A list of distinct scalars, each owned separately."""


Type = Atomic | Struct | MapOf | ListMap | SetOf

ATOMIC = Atomic()
PLAIN = Struct()
STRINGS = MapOf(ATOMIC)


class _Deduced(MapOf):
    """Anything goes: objects without a schema."""

    def __init__(self) -> None:
        object.__setattr__(self, "elem", self)


DEDUCED = _Deduced()


def keyed(keys: str | tuple[str, ...] | dict[str, Any], elem: Type = PLAIN) -> ListMap:
    if isinstance(keys, str):
        keys = (keys,)
    if isinstance(keys, tuple):
        keys = dict.fromkeys(keys)
    return ListMap(tuple(keys.items()), elem)


def resolve(t: Type, value: Any) -> Type:
    """The type that this very value has: scalars and lists without keys are atomic."""
    if value is None or isinstance(t, Atomic):
        return t
    if isinstance(value, dict):
        return t if isinstance(t, Struct | MapOf) else ATOMIC
    if isinstance(value, list):
        return t if isinstance(t, ListMap | SetOf) else ATOMIC
    return ATOMIC


def child(t: Type, key: str) -> tuple[Type, bool]:
    """The type below `key`, and whether it is a named field rather than a map entry."""
    if isinstance(t, Struct):
        return t.fields.get(key, PLAIN), True
    if isinstance(t, MapOf):
        return t.elem, False
    return ATOMIC, True


METADATA = Struct(
    {
        "labels": STRINGS,
        "annotations": STRINGS,
        "finalizers": SetOf(),
        "ownerReferences": keyed("uid", ATOMIC),
        "managedFields": ATOMIC,
    }
)
CONDITIONS = keyed("type")
_RESOURCES = Struct({"limits": STRINGS, "requests": STRINGS, "claims": keyed("name")})
_KEY_REF = ATOMIC
_ENV = keyed(
    "name",
    Struct(
        {
            "valueFrom": Struct(
                {
                    "configMapKeyRef": _KEY_REF,
                    "secretKeyRef": _KEY_REF,
                    "fileKeyRef": _KEY_REF,
                    "fieldRef": ATOMIC,
                    "resourceFieldRef": ATOMIC,
                }
            )
        }
    ),
)
_CONTAINER = Struct(
    {
        "ports": keyed({"containerPort": None, "protocol": "TCP"}),
        "env": _ENV,
        "volumeMounts": keyed("mountPath", Struct({"bindMountOptions": SetOf()})),
        "volumeDevices": keyed("devicePath"),
        "resources": _RESOURCES,
        "securityContext": PLAIN,
    }
)
_CLAIM_SPEC = Struct({"resources": _RESOURCES, "selector": ATOMIC, "dataSource": ATOMIC})
_VOLUME = Struct(
    {
        "ephemeral": Struct({"volumeClaimTemplate": Struct({"metadata": METADATA, "spec": _CLAIM_SPEC})}),
        **{
            name: Struct({"secretRef": ATOMIC}) for name in ("cephfs", "cinder", "iscsi", "rbd", "scaleIO", "storageos")
        },
        "emptyDir": PLAIN,
        "csi": Struct({"volumeAttributes": STRINGS, "nodePublishSecretRef": ATOMIC}),
        "projected": PLAIN,
        "downwardAPI": PLAIN,
        "configMap": PLAIN,
        "secret": PLAIN,
        "flexVolume": Struct({"options": STRINGS, "secretRef": ATOMIC}),
    }
)
POD_SPEC = Struct(
    {
        "containers": keyed("name", _CONTAINER),
        "initContainers": keyed("name", _CONTAINER),
        "ephemeralContainers": keyed("name", _CONTAINER),
        "volumes": keyed("name", _VOLUME),
        "imagePullSecrets": keyed("name", ATOMIC),
        "nodeSelector": ATOMIC,
        "hostAliases": keyed("ip"),
        "schedulingGates": keyed("name"),
        "resourceClaims": keyed("name"),
        "topologySpreadConstraints": keyed(("topologyKey", "whenUnsatisfiable"), Struct({"labelSelector": ATOMIC})),
        "evictionResponders": keyed("name", ATOMIC),
        "overhead": STRINGS,
        "resources": _RESOURCES,
        "affinity": Struct({"nodeAffinity": Struct({"requiredDuringSchedulingIgnoredDuringExecution": ATOMIC})}),
    }
)
_TEMPLATE = Struct({"metadata": METADATA, "spec": POD_SPEC})


def _top(**fields: Type) -> Struct:
    return Struct({"metadata": METADATA, **fields})


_TYPES: dict[tuple[str, str], Struct] = {
    ("", "ConfigMap"): _top(data=STRINGS, binaryData=STRINGS),
    ("", "Secret"): _top(data=STRINGS, stringData=STRINGS),
    ("", "Service"): _top(
        spec=Struct({"ports": keyed({"port": None, "protocol": "TCP"}), "selector": ATOMIC}),
        status=Struct({"conditions": CONDITIONS}),
    ),
    ("", "Pod"): _top(
        spec=POD_SPEC,
        status=Struct(
            {
                "conditions": CONDITIONS,
                "podIPs": keyed("ip"),
                "hostIPs": ATOMIC,
                "nodeAllocatableResourceClaimStatuses": keyed(
                    "resourceClaimName",
                    Struct({"containers": SetOf(), "mapping": keyed("name"), "overhead": keyed("name")}),
                ),
                "resourceClaimStatuses": keyed("name"),
                "resources": _RESOURCES,
                "volumeHealth": keyed("name", Struct({"healthConditions": keyed(("status", "reason"))})),
            }
        ),
    ),
    ("", "Node"): _top(
        spec=Struct({"podCIDRs": SetOf(), "podPreemptionPolicy": Struct({"disableResizePreemption": SetOf()})}),
        status=Struct(
            {
                "conditions": CONDITIONS,
                "addresses": keyed("type"),
                "capacity": STRINGS,
                "allocatable": STRINGS,
            }
        ),
    ),
    ("", "Namespace"): _top(status=Struct({"conditions": CONDITIONS})),
    ("", "Event"): _top(involvedObject=ATOMIC, related=ATOMIC),
    ("", "ServiceAccount"): _top(imagePullSecrets=ATOMIC, secrets=keyed("name", ATOMIC)),
    ("", "PersistentVolumeClaim"): _top(
        spec=_CLAIM_SPEC,
        status=Struct(
            {
                "conditions": CONDITIONS,
                "capacity": STRINGS,
                "healthStatus": Struct({"healthConditions": keyed(("status", "reason"))}),
            }
        ),
    ),
    ("batch", "Job"): _top(
        spec=Struct(
            {
                "selector": ATOMIC,
                "template": _TEMPLATE,
                "scheduling": Struct({"resourceClaims": keyed("name")}),
            }
        ),
        status=Struct(
            {"uncountedTerminatedPods": Struct({"succeeded": SetOf(), "failed": SetOf()})},
        ),
    ),
    ("apps", "Deployment"): _top(
        spec=Struct({"selector": ATOMIC, "template": _TEMPLATE}), status=Struct({"conditions": CONDITIONS})
    ),
    ("apps", "ReplicaSet"): _top(
        spec=Struct({"selector": ATOMIC, "template": _TEMPLATE}), status=Struct({"conditions": CONDITIONS})
    ),
    ("policy", "PodDisruptionBudget"): _top(
        spec=Struct({"selector": ATOMIC}),
        status=Struct({"conditions": CONDITIONS, "disruptedPods": STRINGS}),
    ),
    ("networking.k8s.io", "NetworkPolicy"): _top(spec=Struct({"podSelector": ATOMIC})),
}


@cache
def builtin(group: str, kind: str) -> Struct:
    return _TYPES.get((group, kind), _top())


def from_openapi(schema: Mapping[str, Any]) -> Type:
    """The type of a custom resource, from its structural schema."""
    if schema.get("x-kubernetes-map-type") == "atomic":
        return ATOMIC
    kind = schema.get("type")
    if kind == "array":
        items = from_openapi(schema.get("items", {}))
        how = schema.get("x-kubernetes-list-type", "atomic")
        if how == "set":
            return SetOf()
        if how == "map":
            names = schema["x-kubernetes-list-map-keys"]
            props = schema.get("items", {}).get("properties", {})
            return ListMap(tuple((n, props.get(n, {}).get("default")) for n in names), items)
        return ATOMIC
    if "properties" in schema:
        return Struct({name: from_openapi(inner) for name, inner in schema["properties"].items()})
    extra = schema.get("additionalProperties")
    if isinstance(extra, Mapping):
        return MapOf(from_openapi(extra))
    if schema.get("x-kubernetes-preserve-unknown-fields") or extra is True:
        return DEDUCED
    return PLAIN if kind == "object" else ATOMIC
