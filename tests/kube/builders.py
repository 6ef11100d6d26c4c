"""Objects as short as a table row: each builder takes only what the test is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_operator.core import names

Json = dict[str, Any]
UID = "ftj-uid"
MANAGED = {names.LABEL_MANAGED_BY: names.MANAGER}


def finetunejob(name: str = "bot", *, namespace: str = "team", uid: str = UID, rv: int = 1, **more: Any) -> Json:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FineTuneJob",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "resourceVersion": str(rv),
            "creationTimestamp": "2026-01-01T10:00:00Z",
        },
        "spec": {"model": {"uri": "s3://bucket/model"}},
        **more,
    }


def new_finetunejob(name: str = "bot") -> Json:
    """As a user sends it: complete enough for the API server."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": "s3://bucket/model"},
            "data": {"train": [{"uri": "s3://bucket/train.jsonl"}]},
            "method": {"type": "LoRA"},
        },
    }


MD_UID = "md-uid"


def modeldeployment(
    name: str = "chat", *, namespace: str = "team", uid: str = MD_UID, rv: int = 1, created: str = "", **spec: Any
) -> Json:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelDeployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "resourceVersion": str(rv),
            "creationTimestamp": created or "2026-01-01T10:00:00Z",
        },
        "spec": {"model": {"fineTuneJobRef": {"name": "bot"}}, **spec},
    }


def new_modeldeployment(name: str = "chat") -> Json:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"model": {"fineTuneJobRef": {"name": "bot"}}},
    }


def served(
    kind: str,
    name: str,
    *,
    of: str = "chat",
    uid: str = "",
    revision: str | None = "aaa",
    owner_uid: str = MD_UID,
    rv: int = 1,
    **more: Any,
) -> Json:
    """A child of a ModelDeployment."""
    versions = {"Deployment": "apps/v1", "HTTPRoute": "gateway.networking.k8s.io/v1", "Job": "batch/v1"}
    labels = {**MANAGED, names.LABEL_DEPLOYMENT: of}
    return {
        "apiVersion": versions.get(kind, "v1"),
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(rv),
            "labels": labels | ({names.LABEL_REVISION: revision} if revision else {}),
            "ownerReferences": [owner("ModelDeployment", of, owner_uid)],
        },
        **more,
    }


def engine_pod(
    name: str = "chat-aaa-5f7-x", *, replica_set: str = "chat-aaa-5f7", revision: str = "aaa", **more: Any
) -> Json:
    body = served("Pod", name, revision=revision, **more)
    body["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": replica_set, "uid": "rs", "controller": True}
    ]
    return body | {"spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}


def owner(kind: str, name: str, uid: str, *, controller: bool = True) -> Json:
    version = names.API_VERSION if kind in ("FineTuneJob", "ModelDeployment") else "batch/v1"
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": controller}


def batch_job(
    name: str = "bot-1", *, of: str = "bot", uid: str = "job-1", owner_uid: str = UID, rv: int = 1, **more: Any
) -> Json:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": uid,
            "resourceVersion": str(rv),
            "labels": {**MANAGED, names.LABEL_JOB: of},
            "ownerReferences": [owner("FineTuneJob", of, owner_uid)],
        },
        "spec": {"completions": 2, "template": {"spec": {"containers": [{"name": "main"}]}}},
        "status": {},
        **more,
    }


def pod(
    name: str = "bot-1-0-x",
    *,
    of: str = "bot",
    uid: str = "",
    owner_kind: str = "Job",
    owner_uid: str = "job-1",
    node: str | None = "n1",
    rv: int = 1,
    created: str = "2026-01-01T11:00:00Z",
    **more: Any,
) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(rv),
            "creationTimestamp": created,
            "labels": {**MANAGED, names.LABEL_JOB: of},
            "ownerReferences": [owner(owner_kind, "bot-1" if owner_kind == "Job" else of, owner_uid)],
        },
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "i"}]} if node else {},
        "status": {"phase": "Running"},
        **more,
    }


def node(name: str = "n1", *, rv: int = 1, taints: list[Json] | None = None, ready: str = "True") -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(rv)},
        "spec": {"taints": taints or []},
        "status": {
            "images": [{"names": ["big"] * 50}],
            "conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": str(rv)}],
        },
    }


def service(*, rv: int = 1, **meta: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names.GANG_SERVICE,
            "namespace": "team",
            "uid": "svc",
            "resourceVersion": str(rv),
            "labels": dict(MANAGED),
            **meta,
        },
        "spec": {"clusterIP": "None"},
    }


def unborn(body: Json) -> Json:
    """As it is sent to be created."""
    meta = {k: v for k, v in body["metadata"].items() if k not in ("uid", "resourceVersion", "creationTimestamp")}
    return {**body, "metadata": meta}


def gateway_crd() -> Json:
    """HTTPRoutes as far as we write them; the real CRD's schema is the Gateway API's business."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": anything, "status": anything}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "httproutes.gateway.networking.k8s.io"},
        "spec": {
            "group": "gateway.networking.k8s.io",
            "scope": "Namespaced",
            "names": {
                "plural": "httproutes",
                "singular": "httproute",
                "kind": "HTTPRoute",
                "listKind": "HTTPRouteList",
            },
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }
            ],
        },
    }


Answer = tuple[int, dict[str, str], Any]


@dataclass
class Sent:
    method: str
    path: str
    params: dict[str, str]
    body: Any
    content_type: str | None


@dataclass
class ScriptedTransport:
    """Answers in order: a (status, headers, body) tuple, a body for 200, an exception to raise, or a function of `Sent`."""

    answers: list[Answer | Json | Exception | Callable[[Sent], Answer]]
    sent: list[Sent] = field(default_factory=list)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any | None = None,
        content_type: str | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        sent = Sent(method, path, dict(params or {}), body, content_type)
        self.sent.append(sent)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, dict):
            return 200, {}, answer
        return answer if isinstance(answer, tuple) else answer(sent)


def refusal(code: int, reason: str = "", message: str = "no", **headers: str) -> Answer:
    return code, headers, {"kind": "Status", "code": code, "reason": reason, "message": message}


class Naps:
    """A sleep that only writes down how long."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
