"""The alphabet of the comparison: kinds, operations on them, and a custom resource with every list type."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

Obj = dict[str, Any]

WIDGETS: Obj = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.test"},
    "spec": {
        "group": "example.test",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "size": {"type": "integer", "default": 1, "minimum": 0},
                                    "mode": {"type": "string", "enum": ["A", "B"]},
                                    "inner": {
                                        "type": "object",
                                        "default": {},
                                        "properties": {
                                            "depth": {"type": "integer", "default": 3},
                                            "note": {"type": "string"},
                                        },
                                    },
                                    "tags": {
                                        "type": "array",
                                        "items": {"type": "string"},
                                        "x-kubernetes-list-type": "set",
                                    },
                                    "plain": {"type": "array", "items": {"type": "string"}},
                                    "options": {"type": "object", "additionalProperties": {"type": "string"}},
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {
                                    "phase": {"type": "string"},
                                    "count": {"type": "integer"},
                                    "conditions": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["type"],
                                        "items": {
                                            "type": "object",
                                            "required": ["type", "status"],
                                            "properties": {
                                                "type": {"type": "string"},
                                                "status": {"type": "string"},
                                            },
                                        },
                                    },
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}


@dataclass(frozen=True)
class Kind:
    kind: str
    api: str
    plural: str
    status: bool = False
    scale: bool = False

    def path(self, namespace: str, name: str = "", sub: str = "") -> str:
        root = f"/apis/{self.api}" if "/" in self.api else f"/api/{self.api}"
        tail = (f"/{name}" if name else "") + (f"/{sub}" if sub else "")
        return f"{root}/namespaces/{namespace}/{self.plural}{tail}"


KINDS = [
    Kind("ConfigMap", "v1", "configmaps"),
    Kind("Secret", "v1", "secrets"),
    Kind("Service", "v1", "services", status=True),
    Kind("Job", "batch/v1", "jobs", status=True),
    Kind("Lease", "coordination.k8s.io/v1", "leases"),
    Kind("Pod", "v1", "pods", status=True),
    Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies"),
    Kind("Event", "v1", "events"),
    Kind("Deployment", "apps/v1", "deployments", status=True, scale=True),
    Kind("HTTPRoute", "gateway.networking.k8s.io/v1", "httproutes", status=True),
    Kind("ModelDeployment", "finetune.dev/v1alpha1", "modeldeployments", status=True, scale=True),
    Kind("Widget", "example.test/v1", "widgets", status=True),
]


@dataclass
class Op:
    verb: str  # create get put merge json strategic apply delete list
    kind: Kind
    name: str
    body: Any = None
    params: dict[str, str] = field(default_factory=dict)
    sub: str = ""
    version: str = ""  # "" | current | stale | bogus: which resourceVersion the request carries
    uid: str = ""  # "" | current | bogus

    def __str__(self) -> str:
        extra = " ".join(f"{k}={v}" for k, v in (("version", self.version), ("uid", self.uid), ("sub", self.sub)) if v)
        return f"{self.verb} {self.kind.kind}/{self.name} {extra} {self.params} {json.dumps(self.body)}"
