"""The one HTTPRoute of a ModelDeployment: where the weights live, and the memory that survives a lost status.

It is made by POST and changed by merge patch under its resourceVersion. A list in a merge patch is replaced as a
whole, so a patch carries each list that differs in what we ask of it. What the API server, or a newer Gateway API,
fills in beside our fields is nothing that differs: a settled route is never patched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_api.serveconfig import SERVICE_PORT
from finetune_operator.core.names import ROLE_ROUTE, ROUTE_ANNOTATIONS, Reason, revision_object
from finetune_operator.core.objects import name_of
from finetune_operator.core.serving.builders.common import serving_metadata
from finetune_operator.core.serving.traffic import address
from finetune_operator.core.types import HTTPROUTES, Config, MergePatch, Obj

GATEWAY_GROUP = "gateway.networking.k8s.io"
GATEWAY_KIND = "Gateway"
OPENAI_PATH = "/v1"


def parent_refs(md: Obj, spec: ModelDeploymentSpec, config: Config) -> list[dict[str, Any]]:
    """The Gateways of the spec, else the installation's; every default is written out. Empty: there is none."""
    own = md["metadata"]["namespace"]
    refs = [
        {"namespace": ref.namespace or own, "name": ref.name}
        | ({"sectionName": ref.section_name} if ref.section_name else {})
        for ref in spec.traffic.parent_refs or ()
    ]
    if not refs and config.gateway:
        namespace, _, name = config.gateway.rpartition("/")
        refs = [{"namespace": namespace or own, "name": name}]
    return [{"group": GATEWAY_GROUP, "kind": GATEWAY_KIND, **ref} for ref in refs]


def build_route(
    md: Obj,
    spec: ModelDeploymentSpec,
    config: Config,
    backends: Sequence[tuple[str, int]],
    annotations: Mapping[str, str],
) -> dict[str, Any]:
    """`backends`: (revision, weight). Clients reach the OpenAI API below the address and nothing else of the engine, as
    its /metrics; it sees paths without the prefix they use."""
    name = md["metadata"]["name"]
    where = address(spec, md, config)
    prefix = where.path.rstrip("/")
    rule: dict[str, Any] = {"matches": [{"path": {"type": "PathPrefix", "value": f"{prefix}{OPENAI_PATH}"}}]}
    if prefix:
        rewrite = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": OPENAI_PATH}}
        rule["filters"] = [{"type": "URLRewrite", "urlRewrite": rewrite}]
    rule["backendRefs"] = [
        {
            "group": "",
            "kind": "Service",
            "name": revision_object(name, revision),
            "port": SERVICE_PORT,
            "weight": weight,
        }
        for revision, weight in backends
    ]
    spec_wire: dict[str, Any] = {"parentRefs": parent_refs(md, spec, config), "rules": [rule]}
    if where.hostnames:
        spec_wire["hostnames"] = list(where.hostnames)
    return {
        "apiVersion": HTTPROUTES.api_version,
        "kind": HTTPROUTES.kind,
        "metadata": serving_metadata(md, name, ROLE_ROUTE, annotations=annotations),
        "spec": spec_wire,
    }


def route_patch(observed: Obj, wanted: Obj) -> MergePatch | None:
    """What makes the observed route the wanted one; None when it already is."""
    meta = observed["metadata"]
    has, wants = observed.get("spec") or {}, wanted["spec"]
    spec: dict[str, Any] = {}
    if [_identity(observed, r) for r in has.get("parentRefs") or ()] != [
        _identity(wanted, r) for r in wants["parentRefs"]
    ]:
        spec["parentRefs"] = wants["parentRefs"]
    if list(has.get("hostnames") or ()) != list(wants.get("hostnames") or ()):
        spec["hostnames"] = wants.get("hostnames")
    if not _same_rules(has.get("rules"), wants["rules"]):
        spec["rules"] = wants["rules"]
    notes_has = meta.get("annotations") or {}
    notes_wanted = wanted["metadata"].get("annotations") or {}
    notes = {
        key: notes_wanted.get(key)
        for key in (*ROUTE_ANNOTATIONS, *(k for k in notes_wanted if k not in ROUTE_ANNOTATIONS))
        if notes_has.get(key) != notes_wanted.get(key)
    }
    if not spec and not notes:
        return None
    body: dict[str, Any] = {"metadata": {"resourceVersion": meta["resourceVersion"]}}
    if notes:
        body["metadata"]["annotations"] = notes
    if spec:
        body["spec"] = spec
    return MergePatch(HTTPROUTES, meta["namespace"], meta["name"], body)


def _same_rules(has: Any, wants: list[dict[str, Any]]) -> bool:
    return _covers(has, wants) and all(
        bool(theirs.get("filters")) == bool(ours.get("filters")) for theirs, ours in zip(has, wants, strict=True)
    )


def _covers(has: Any, wants: Any) -> bool:
    """Everything that is wanted is there; keys beside it are not ours, further list entries are a difference."""
    if isinstance(wants, Mapping):
        return isinstance(has, Mapping) and all(key in has and _covers(has[key], wants[key]) for key in wants)
    if isinstance(wants, list):
        return isinstance(has, Sequence) and len(has) == len(wants) and all(map(_covers, has, wants))
    return bool(has == wants)


def weights(route: Obj) -> dict[str, int]:
    """Weight by revision, as the route has it now."""
    prefix = f"{name_of(route)}-"
    out: dict[str, int] = {}
    for rule in (route.get("spec") or {}).get("rules") or ():
        for ref in rule.get("backendRefs") or ():
            name = str(ref.get("name", ""))
            if name.startswith(prefix):
                out[name[len(prefix) :]] = int(ref.get("weight", 1))
    return out


@dataclass(frozen=True)
class Acceptance:
    """Whether every Gateway took this generation of the route. `reason` is empty when it did."""

    ok: bool
    reason: str = ""
    message: str = ""


_HINTS = {
    "NotAllowedByListeners": "its listeners do not admit routes of namespace {namespace}; set allowedRoutes there",
    "NoMatchingListenerHostname": "none of its listeners serves the hostname {hostnames}",
    "NoMatchingParent": "it has no such listener",
    "BackendNotFound": "it does not find a Service that the route names",
}


def accepted(route: Obj, parents: Sequence[Obj]) -> Acceptance:
    """Accepted and ResolvedRefs are True, at the route's generation, for every parent that is wanted."""
    pending: list[str] = []
    for parent in parents:
        entries = [e for e in _reports(route) if _identity(route, e.get("parentRef") or {}) == _identity(route, parent)]
        if not entries:
            pending.append(
                f"{_title(parent)} has not reported on this route; check that it exists and that its controller runs"
            )
        for entry in entries:
            for kind in ("Accepted", "ResolvedRefs"):
                refusal, wait = _judge(route, parent, entry, kind)
                if refusal:
                    return Acceptance(False, Reason.ROUTE_NOT_ACCEPTED, refusal)
                if wait:
                    pending.append(wait)
    if pending:
        return Acceptance(False, Reason.ROUTE_PENDING, pending[0])
    return Acceptance(True)


def _reports(route: Obj) -> Sequence[Obj]:
    return (route.get("status") or {}).get("parents") or ()


def _identity(route: Obj, ref: Obj) -> tuple[str, str, str, str, str]:
    return (
        ref.get("group", GATEWAY_GROUP),
        ref.get("kind", GATEWAY_KIND),
        ref.get("namespace") or route["metadata"]["namespace"],
        ref.get("name", ""),
        ref.get("sectionName") or "",
    )


def _title(parent: Obj) -> str:
    listener = f", listener {parent['sectionName']}" if parent.get("sectionName") else ""
    return f"Gateway {parent['namespace']}/{parent['name']}{listener}"


def _judge(route: Obj, parent: Obj, entry: Obj, kind: str) -> tuple[str, str]:
    """(refusal, wait), one of them or both empty."""
    found = next((c for c in entry.get("conditions") or () if c.get("type") == kind), None)
    if found is None or found.get("observedGeneration") != route["metadata"].get("generation"):
        return "", f"{_title(parent)} has not judged the newest version of the route yet ({kind})"
    if found.get("status") == "True":
        return "", ""
    if found.get("status") != "False":
        return "", f"{_title(parent)} cannot say yet whether it takes the route ({kind} is {found.get('status')})"
    reason = str(found.get("reason", ""))
    words = str(found.get("message") or "")
    if not words:
        hostnames = ", ".join((route.get("spec") or {}).get("hostnames") or ("*",))
        words = _HINTS.get(reason, "").format(namespace=route["metadata"]["namespace"], hostnames=hostnames)
    return f"{_title(parent)} refuses the route: {kind} is False, {reason}" + (f": {words}" if words else ""), ""
