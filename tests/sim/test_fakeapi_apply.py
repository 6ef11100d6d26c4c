"""Server-side apply: who owns what, conflicts, removal of what is no longer applied, writes that are none."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import Api, Refused, owned


@pytest.fixture
def api() -> Api:
    return Api()


def test_apply_creates_and_owns_what_it_mentions(api: Api) -> None:
    made = api.apply("configmaps", "a", {"metadata": {"labels": {"x": "1"}}, "data": {"k": "v"}})
    assert owned(made) == {"m": {"f:data": {"f:k": {}}, "f:metadata": {"f:labels": {"f:x": {}}}}}
    (entry,) = made["metadata"]["managedFields"]
    assert (entry["operation"], entry["apiVersion"], entry["fieldsType"]) == ("Apply", "v1", "FieldsV1")


def test_post_owns_containers_of_what_it_added_too(api: Api) -> None:
    made = api.post("configmaps", {"metadata": {"name": "a"}, "data": {"k": "v"}}, fieldManager="p")
    assert owned(made) == {"p": {"f:data": {".": {}, "f:k": {}}}}


def test_defaults_belong_to_nobody(api: Api) -> None:
    made = api.apply("services", "a", {"spec": {"clusterIP": "None", "ports": [{"port": 80}]}})
    ports = owned(made)["m"]["f:spec"]["f:ports"]
    assert ports == {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}
    assert made["spec"]["ports"][0]["targetPort"] == 80


def test_applying_the_same_again_writes_nothing(api: Api) -> None:
    body = {"spec": {"clusterIP": "None", "ports": [{"port": 80, "name": "x"}], "selector": {"a": "b"}}}
    made = api.apply("services", "a", body)
    api.server.clock.advance(60)
    mark = api.server.writes.mark()
    assert api.apply("services", "a", body) == made
    assert api.server.writes.since(mark) == []


def test_conflict_names_owner_and_field_and_changes_nothing(api: Api) -> None:
    made = api.apply("configmaps", "a", {"data": {"k": "1"}}, manager="first")
    with pytest.raises(Refused) as refused:
        api.apply("configmaps", "a", {"data": {"k": "2"}}, manager="second")
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    (cause,) = refused.value.body["details"]["causes"]
    assert cause == {"reason": "FieldManagerConflict", "message": 'conflict with "first"', "field": ".data.k"}
    assert api.get("configmaps", "a") == made


def test_force_takes_the_field_over(api: Api) -> None:
    api.apply("configmaps", "a", {"data": {"k": "1", "other": "x"}}, manager="first")
    made = api.apply("configmaps", "a", {"data": {"k": "2"}}, manager="second", force="true")
    assert made["data"] == {"k": "2", "other": "x"}
    assert owned(made) == {"first": {"f:data": {"f:other": {}}}, "second": {"f:data": {"f:k": {}}}}


def test_the_same_value_is_shared_without_conflict(api: Api) -> None:
    api.apply("configmaps", "a", {"data": {"k": "1"}}, manager="first")
    made = api.apply("configmaps", "a", {"data": {"k": "1"}}, manager="second")
    assert set(owned(made)) == {"first", "second"}
    # One lets go: the other still holds it.
    made = api.apply("configmaps", "a", {}, manager="first")
    assert made["data"] == {"k": "1"}
    assert set(owned(made)) == {"second"}
    assert "data" not in api.apply("configmaps", "a", {}, manager="second")


def test_what_is_no_longer_applied_is_removed(api: Api) -> None:
    api.apply("configmaps", "a", {"data": {"k": "1", "l": "2"}, "metadata": {"labels": {"x": "1"}}})
    made = api.apply("configmaps", "a", {"data": {"l": "2"}})
    assert made["data"] == {"l": "2"}
    assert "labels" not in made["metadata"]


def test_what_others_wrote_is_left_alone(api: Api) -> None:
    api.post("configmaps", {"metadata": {"name": "a", "labels": {"theirs": "1"}}, "data": {"k": "1"}})
    api.apply("configmaps", "a", {"data": {"mine": "1"}})
    made = api.apply("configmaps", "a", {"data": {}})
    assert made["data"] == {"k": "1"}
    assert made["metadata"]["labels"] == {"theirs": "1"}


def test_an_ordinary_write_takes_ownership_without_asking(api: Api) -> None:
    api.apply("configmaps", "a", {"data": {"k": "1"}})
    made = api.merge("configmaps", "a", {"data": {"k": "2"}}, fieldManager="editor")
    assert owned(made) == {"editor": {"f:data": {"f:k": {}}}}
    with pytest.raises(Refused):
        api.apply("configmaps", "a", {"data": {"k": "1"}})


def test_list_items_are_found_by_their_keys(api: Api) -> None:
    api.apply("services", "a", {"spec": {"ports": [{"port": 80, "name": "a"}]}}, manager="first")
    made = api.apply("services", "a", {"spec": {"ports": [{"port": 81, "name": "b"}]}}, manager="second")
    assert [p["port"] for p in made["spec"]["ports"]] == [80, 81]
    made = api.apply(
        "services",
        "a",
        {"spec": {"ports": [{"port": 80, "name": "a", "targetPort": 9}]}},
        manager="first",
        force="true",
    )
    assert [(p["port"], p["targetPort"]) for p in made["spec"]["ports"]] == [(80, 9), (81, 81)]
    made = api.apply("services", "a", {"spec": {"clusterIP": made["spec"]["clusterIP"]}}, manager="first")
    assert [p["port"] for p in made["spec"]["ports"]] == [81]


def test_owner_references_and_finalizers_are_merged(api: Api) -> None:
    refs = [{"apiVersion": "v1", "kind": "ConfigMap", "name": n, "uid": f"u{n}"} for n in "xy"]
    api.apply("configmaps", "a", {"metadata": {"ownerReferences": [refs[0]], "finalizers": ["a/b"]}}, manager="1")
    made = api.apply(
        "configmaps", "a", {"metadata": {"ownerReferences": [refs[1]], "finalizers": ["c/d"]}}, manager="2"
    )
    assert [r["name"] for r in made["metadata"]["ownerReferences"]] == ["x", "y"]
    assert made["metadata"]["finalizers"] == ["a/b", "c/d"]


def test_atomic_values_are_replaced_whole(api: Api) -> None:
    body: dict[str, Any] = {"spec": {"ports": [{"port": 80}], "selector": {"a": "1", "b": "2"}}}
    api.apply("services", "a", body)
    body["spec"]["selector"] = {"c": "3"}
    assert api.apply("services", "a", body)["spec"]["selector"] == {"c": "3"}
    with pytest.raises(Refused):
        api.apply("services", "a", {"spec": {"selector": {"d": "4"}}}, manager="other")


def test_status_is_owned_separately(api: Api) -> None:
    api.post("widgets", {"metadata": {"name": "a"}, "spec": {}})
    made = api.apply("widgets", "a", {"status": {"phase": "X"}, "spec": {"ignored": 1}}, "status")
    assert made["status"] == {"phase": "X"}
    assert made["spec"] == {}
    entry = next(e for e in made["metadata"]["managedFields"] if e["manager"] == "m")
    assert entry["subresource"] == "status"
    assert entry["fieldsV1"] == {"f:status": {"f:phase": {}}}


@pytest.mark.parametrize(
    ("body", "params", "code"),
    [
        ({"metadata": {"managedFields": [{}]}}, {}, 400),
        ({"metadata": {"name": "other"}}, {}, 400),
        ({"apiVersion": "v2"}, {}, 400),
        ({"kind": ""}, {}, 400),
        ({"data": {"k": 1}}, {}, 500),
        ({"nonsense": 1}, {}, 500),
        ({"metadata": {"uid": "00000000-0000-4000-8000-000000000000"}}, {}, 409),
    ],
    ids=str,
)
def test_refused_applies(api: Api, body: dict[str, Any], params: dict[str, str], code: int) -> None:
    with pytest.raises(Refused) as refused:
        api.apply("configmaps", "a", body, **params)
    assert refused.value.code == code


def test_apply_needs_a_manager_and_others_no_force(api: Api) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    with pytest.raises(Refused) as refused:
        api.call("PATCH", api.path("configmaps", "a"), body, "application/apply-patch+yaml")
    assert refused.value.code == 422
    api.post("configmaps", {"metadata": {"name": "a"}})
    with pytest.raises(Refused) as refused:
        api.merge("configmaps", "a", {}, force="true")
    assert refused.value.code == 422


def test_apply_to_what_nobody_tracked_conflicts_with_a_placeholder(api: Api) -> None:
    api.post("configmaps", {"metadata": {"name": "a"}, "data": {"k": "1"}})
    bare = api.merge("configmaps", "a", {"metadata": {"managedFields": [{}]}})
    assert "managedFields" not in bare["metadata"]
    with pytest.raises(Refused) as refused:
        api.apply("configmaps", "a", {"data": {"k": "2"}})
    assert "before-first-apply" in refused.value.body["message"]


def test_only_so_many_updaters_are_remembered(api: Api) -> None:
    api.post("configmaps", {"metadata": {"name": "a"}, "data": {"k": "v"}})
    for n in range(15):
        api.server.clock.advance(1)
        api.merge("configmaps", "a", {"data": {f"k{n}": "1"}}, fieldManager=f"m{n:02}")
    found = owned(api.get("configmaps", "a"))
    assert len(found) == 10
    assert "ancient-changes" in found
    assert "m14" in found
