from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from finetune_operator.core.serving.builders.route import accepted, build_route, parent_refs, route_patch, weights
from tests.core.serving.leaves import CONFIG, modeldeployment, spec_of, stored

STABLE, ROLLOUT, REJECTED = "finetune.dev/stable", "finetune.dev/rollout", "finetune.dev/rejected"
PARENT = {
    "group": "gateway.networking.k8s.io",
    "kind": "Gateway",
    "namespace": "finetune-system",
    "name": "finetune",
}


def route(
    *backends: tuple[str, int],
    spec: dict[str, Any] | None = None,
    notes: dict[str, str] | None = None,
    config: Any = CONFIG,
) -> dict[str, Any]:
    md = modeldeployment(spec)
    return build_route(md, spec_of(md), config, backends or (("old", 95), ("new", 5)), notes or {STABLE: "old"})


def reported(obj: dict[str, Any], *parents: dict[str, Any]) -> dict[str, Any]:
    return {**obj, "status": {"parents": list(parents)}}


def report(
    accepted: str = "True",
    resolved: str = "True",
    *,
    generation: int | None = 3,
    reason: str = "Accepted",
    message: str = "",
    ref: dict[str, Any] | None = None,
) -> dict[str, Any]:
    more = {} if generation is None else {"observedGeneration": generation}
    return {
        "parentRef": ref if ref is not None else PARENT,
        "controllerName": "example.com/gateway",
        "conditions": [
            {"type": "Accepted", "status": accepted, "reason": reason, "message": message, **more},
            {"type": "ResolvedRefs", "status": resolved, "reason": reason, "message": message, **more},
        ],
    }


def test_a_route_carries_hostname_weights_owner_and_memory() -> None:
    made = route()
    assert made["metadata"]["name"] == "bot"
    assert made["metadata"]["annotations"] == {STABLE: "old"}
    assert made["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "finetune-operator",
        "finetune.dev/deployment": "bot",
        "finetune.dev/role": "route",
    }
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("ModelDeployment", "uid-md", True)
    assert made["spec"]["parentRefs"] == [PARENT]
    assert made["spec"]["hostnames"] == ["bot.team.models.example.com"]
    (rule,) = made["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/v1"}}]
    assert "filters" not in rule
    assert [(r["name"], r["port"], r["weight"]) for r in rule["backendRefs"]] == [
        ("bot-old", 80, 95),
        ("bot-new", 80, 5),
    ]


def test_a_path_is_taken_away_before_the_engine_sees_it() -> None:
    made = route(config=replace(CONFIG, gateway_domain=""))
    (rule,) = made["spec"]["rules"]
    assert rule["matches"][0]["path"]["value"] == "/team/bot/v1"
    assert rule["filters"] == [
        {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v1"}}}
    ]
    assert "hostnames" not in made["spec"]


def test_the_specs_gateways_come_before_the_installations() -> None:
    md = modeldeployment(
        {"traffic": {"parentRefs": [{"name": "own"}, {"name": "edge", "namespace": "net", "sectionName": "web"}]}}
    )
    assert [(r["namespace"], r["name"], r.get("sectionName")) for r in parent_refs(md, spec_of(md), CONFIG)] == [
        ("team", "own", None),
        ("net", "edge", "web"),
    ]
    plain = modeldeployment()
    assert parent_refs(plain, spec_of(plain), CONFIG) == [PARENT]
    assert parent_refs(plain, spec_of(plain), replace(CONFIG, gateway="")) == []


def test_a_settled_route_is_not_patched() -> None:
    wanted = route()
    seen = stored(wanted)
    seen["metadata"]["annotations"]["somebody.else/note"] = "kept"
    seen["spec"]["rules"][0]["timeouts"] = {"request": "10s"}  # a default of some newer Gateway API
    assert route_patch(seen, wanted) is None
    path = route(config=replace(CONFIG, gateway_domain=""))
    assert route_patch(stored(path), path) is None


def test_a_weight_change_patches_the_rules_and_nothing_else() -> None:
    patch = route_patch(stored(route(("old", 95), ("new", 5))), route(("old", 75), ("new", 25)))
    assert patch is not None
    assert patch.body["metadata"] == {"resourceVersion": "7"}
    assert list(patch.body["spec"]) == ["rules"]
    assert [r["weight"] for r in patch.body["spec"]["rules"][0]["backendRefs"]] == [75, 25]
    assert (patch.resource.plural, patch.namespace, patch.name) == ("httproutes", "team", "bot")


def test_annotations_are_set_and_taken_away_and_others_left() -> None:
    seen = stored(route(notes={STABLE: "old", ROLLOUT: "new/1", REJECTED: "[]"}))
    seen["metadata"]["annotations"]["somebody.else/note"] = "kept"
    patch = route_patch(seen, route(notes={STABLE: "new", REJECTED: "[]"}))
    assert patch is not None
    assert patch.body == {
        "metadata": {"resourceVersion": "7", "annotations": {STABLE: "new", ROLLOUT: None}},
    }


def _merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386, to see what a patch leaves."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = _merge_patch(out.get(key), value)
    return out


CHANGES: dict[str, dict[str, Any]] = {
    "hostnames": {"traffic": {"hostnames": ["a.models.example.com", "b.models.example.com"]}},
    "path": {"traffic": {"path": "/chat"}},
    "gateway": {"traffic": {"parentRefs": [{"name": "own"}]}},
    "listener": {"traffic": {"parentRefs": [{"name": "own", "sectionName": "web"}]}},
}


@pytest.mark.parametrize("before", CHANGES)
@pytest.mark.parametrize("after", CHANGES)
def test_one_patch_leads_from_any_address_to_any_other(before: str, after: str) -> None:
    seen, wanted = stored(route(spec=CHANGES[before])), route(spec=CHANGES[after])
    patch = route_patch(seen, wanted)
    assert (patch is None) == (before == after)
    if patch is not None:
        json.dumps(patch.body)
        assert route_patch(_merge_patch(seen, patch.body), wanted) is None


def test_hostnames_are_removed_when_any_host_will_do() -> None:
    nowhere = replace(CONFIG, gateway_domain="")
    patch = route_patch(stored(route()), route(config=nowhere))
    assert patch is not None
    assert patch.body["spec"]["hostnames"] is None
    assert route_patch(_merge_patch(stored(route()), patch.body), route(config=nowhere)) is None


def test_what_somebody_else_changed_is_put_back() -> None:
    wanted = route()
    for tamper in (
        lambda r: r["spec"]["rules"].append({"matches": []}),
        lambda r: r["spec"]["rules"][0].update(filters=[{"type": "RequestMirror"}]),
        lambda r: r["spec"]["rules"][0]["backendRefs"].reverse(),
        lambda r: r["spec"].update(hostnames=[]),
        lambda r: r["spec"].pop("parentRefs"),
        lambda r: r["spec"].pop("rules"),
    ):
        seen = stored(wanted)
        tamper(seen)
        patch = route_patch(seen, wanted)
        assert patch is not None
        assert route_patch(_merge_patch(seen, patch.body), wanted) is None


def test_weights_are_read_back() -> None:
    assert weights(route(("old", 95), ("new", 5))) == {"old": 95, "new": 5}
    foreign = route()
    foreign["spec"]["rules"][0]["backendRefs"] = [{"name": "other-x", "weight": 3}, {"name": "bot-old"}]
    assert weights(foreign) == {"old": 1}
    assert weights({"metadata": {"name": "bot"}}) == {}


def test_a_route_counts_when_every_parent_took_its_newest_version() -> None:
    seen = stored(route())
    answer = accepted(reported(seen, report()), [PARENT])
    assert (answer.ok, answer.reason) == (True, "")
    short = report(ref={"name": "finetune", "namespace": "finetune-system"})
    assert accepted(reported(seen, short), [PARENT]).ok


@pytest.mark.parametrize(
    ("parents", "words"),
    [
        ([], "Gateway finetune-system/finetune has not reported"),
        ([report(ref={"name": "finetune"})], "has not reported"),  # a Gateway of that name in the route's namespace
        ([report(ref={**PARENT, "sectionName": "web"})], "has not reported"),
        ([report(generation=2)], "has not judged the newest version"),
        ([report("False", generation=2, reason="NotAllowedByListeners")], "has not judged the newest version"),
        ([report(generation=None)], "has not judged the newest version"),
        ([report("Unknown")], "cannot say yet"),
        ([{"parentRef": PARENT, "controllerName": "x", "conditions": []}], "has not judged"),
    ],
)
def test_what_no_gateway_has_said_yet_is_pending(parents: list[dict[str, Any]], words: str) -> None:
    answer = accepted(reported(stored(route()), *parents), [PARENT])
    assert (answer.ok, answer.reason) == (False, "RoutePending")
    assert words in answer.message


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (report("False", reason="NotAllowedByListeners"), "do not admit routes of namespace team"),
        (report("False", reason="NoMatchingListenerHostname"), "serves the hostname bot.team.models.example.com"),
        (report("False", reason="Custom"), "Accepted is False, Custom"),
        (
            report("True", "False", reason="BackendNotFound", message="endpointslices not found"),
            "endpointslices not found",
        ),
    ],
)
def test_a_refusal_is_told_in_the_gateways_words(entry: dict[str, Any], words: str) -> None:
    answer = accepted(reported(stored(route()), entry), [PARENT])
    assert (answer.ok, answer.reason) == (False, "RouteNotAccepted")
    assert answer.message.startswith("Gateway finetune-system/finetune refuses the route: ")
    assert words in answer.message


def test_one_of_two_gateways_is_not_enough() -> None:
    other = {**PARENT, "name": "edge", "sectionName": "web"}
    seen = stored(route())
    assert accepted(reported(seen, report()), [PARENT, other]).reason == "RoutePending"
    refused = report("False", reason="NoMatchingParent", ref=other)
    answer = accepted(reported(seen, report(generation=1), refused), [PARENT, other])
    assert answer.reason == "RouteNotAccepted"
    assert "Gateway finetune-system/edge, listener web refuses" in answer.message
    assert accepted(reported(seen, report(), report(ref=other)), [PARENT, other]).ok
