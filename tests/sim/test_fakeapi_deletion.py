"""DELETE: preconditions, finalizers, propagation, grace; and what garbage collection makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from fakeapi.controllers import GarbageCollector
from helpers import POD_SPEC, Api, Refused, job


@pytest.fixture
def api() -> Api:
    return Api()


def collect(api: Api) -> int:
    collector = GarbageCollector(api.server)
    steps = 0
    while collector.step():
        steps += 1
        assert steps < 100
    return steps


def ref(owner: dict[str, Any], *, blocks: bool = True) -> dict[str, Any]:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": blocks,
    }


def test_answers(api: Api) -> None:
    made = api.post("configmaps", {"metadata": {"name": "a"}})
    answer = api.delete("configmaps", "a")
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    with pytest.raises(Refused) as refused:
        api.delete("configmaps", "a")
    assert refused.value.code == 404
    api.post("services", {"metadata": {"name": "a"}, "spec": {"clusterIP": "None"}})
    assert api.delete("services", "a")["kind"] == "Service"


@pytest.mark.parametrize("what", ["uid", "resourceVersion"])
def test_preconditions(api: Api, what: str) -> None:
    made = api.post("configmaps", {"metadata": {"name": "a"}})
    with pytest.raises(Refused) as refused:
        api.delete("configmaps", "a", preconditions={what: "other"})
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    api.delete("configmaps", "a", preconditions={what: made["metadata"][what]})
    assert api.names("configmaps") == []


def test_finalizers_hold_an_object_until_the_last_is_gone(api: Api) -> None:
    api.post("jobs", {**job("a"), "metadata": {"name": "a", "finalizers": ["x/y", "z/w"]}})
    gone = api.delete("jobs", "a", propagationPolicy="Background")
    assert gone["metadata"]["deletionTimestamp"]
    assert gone["metadata"]["deletionGracePeriodSeconds"] == 0
    assert gone["metadata"]["generation"] == 2
    version = gone["metadata"]["resourceVersion"]
    assert api.delete("jobs", "a", propagationPolicy="Background")["metadata"]["resourceVersion"] == version
    with pytest.raises(Refused):
        api.merge("jobs", "a", {"metadata": {"finalizers": ["x/y", "new/one"]}})
    api.merge("jobs", "a", {"metadata": {"finalizers": ["z/w"]}})
    assert api.names("jobs") == ["a"]
    with pytest.raises(Refused) as refused:
        api.post("jobs", job("a"))
    assert "object is being deleted" in str(refused.value)
    api.merge("jobs", "a", {"metadata": {"finalizers": None}})
    assert api.names("jobs") == []


def test_nobody_takes_back_a_deletion(api: Api) -> None:
    api.post("configmaps", {"metadata": {"name": "a", "finalizers": ["x/y"]}})
    held = api.delete("configmaps", "a")
    del held["metadata"]["deletionTimestamp"]
    held["data"] = {"k": "v"}
    assert api.put("configmaps", held)["metadata"]["deletionTimestamp"]


def test_background_leaves_children_to_the_collector(api: Api) -> None:
    parent = api.post("widgets", {"metadata": {"name": "p"}})
    api.post("configmaps", {"metadata": {"name": "c", "ownerReferences": [ref(parent)]}})
    api.delete("widgets", "p", propagationPolicy="Background")
    assert api.names("configmaps") == ["c"]
    collect(api)
    assert api.names("configmaps") == []


def test_foreground_waits_for_blocking_children(api: Api) -> None:
    parent = api.post("widgets", {"metadata": {"name": "p"}})
    child = {"name": "c", "ownerReferences": [ref(parent)], "finalizers": ["x/y"]}
    api.post("configmaps", {"metadata": child})
    api.delete("widgets", "p", propagationPolicy="Foreground")
    assert api.get("widgets", "p")["metadata"]["finalizers"] == ["foregroundDeletion"]
    collect(api)
    assert api.get("configmaps", "c")["metadata"]["deletionTimestamp"]
    assert api.names("widgets") == ["p"]
    api.merge("configmaps", "c", {"metadata": {"finalizers": None}})
    collect(api)
    assert api.names("widgets") == []


def test_foreground_does_not_wait_for_others(api: Api) -> None:
    parent = api.post("widgets", {"metadata": {"name": "p"}})
    api.post(
        "configmaps", {"metadata": {"name": "c", "finalizers": ["x/y"], "ownerReferences": [ref(parent, blocks=False)]}}
    )
    api.delete("widgets", "p", propagationPolicy="Foreground")
    collect(api)
    assert api.names("widgets") == []


def test_orphan_frees_the_children(api: Api) -> None:
    parent = api.post("widgets", {"metadata": {"name": "p"}})
    api.post("configmaps", {"metadata": {"name": "c", "ownerReferences": [ref(parent)]}})
    api.delete("widgets", "p", propagationPolicy="Orphan")
    collect(api)
    assert api.names("widgets") == []
    assert "ownerReferences" not in api.get("configmaps", "c")["metadata"]


def test_deleting_a_job_plainly_orphans_its_pods(api: Api) -> None:
    """For historical reasons; who forgets the policy leaks pods."""
    owner = api.post("jobs", job("a"))
    api.post("pods", {"metadata": {"name": "p", "ownerReferences": [ref(owner)]}, "spec": POD_SPEC})
    api.delete("jobs", "a")
    collect(api)
    assert api.names("jobs") == []
    assert api.names("pods") == ["p"]


def test_a_child_lives_while_one_owner_does(api: Api) -> None:
    owners = [api.post("widgets", {"metadata": {"name": n}}) for n in ("p", "q")]
    refs = [ref(o) | {"controller": False} for o in owners]
    api.post("configmaps", {"metadata": {"name": "c", "ownerReferences": refs}})
    api.delete("widgets", "p", propagationPolicy="Background")
    collect(api)
    assert [r["name"] for r in api.get("configmaps", "c")["metadata"]["ownerReferences"]] == ["q"]
    api.delete("widgets", "q", propagationPolicy="Background")
    collect(api)
    assert api.names("configmaps") == []


def test_an_owner_of_the_same_name_but_another_uid_is_none(api: Api) -> None:
    parent = api.post("widgets", {"metadata": {"name": "p"}})
    api.post("configmaps", {"metadata": {"name": "c", "ownerReferences": [ref(parent)]}})
    api.delete("widgets", "p", propagationPolicy="Background")
    api.post("widgets", {"metadata": {"name": "p"}})
    collect(api)
    assert api.names("configmaps") == []


def running_pod(api: Api, **meta: Any) -> dict[str, Any]:
    api.post("pods", {"metadata": {"name": "p", **meta}, "spec": {**POD_SPEC, "terminationGracePeriodSeconds": 20}})
    api.call("POST", api.path("pods", "p", "binding"), {"target": {"name": "n"}})
    return api.merge("pods", "p", {"status": {"phase": "Running"}}, "status")


def test_running_pods_get_their_grace(api: Api) -> None:
    running_pod(api)
    going = api.delete("pods", "p")
    assert going["metadata"]["deletionGracePeriodSeconds"] == 20
    assert going["metadata"]["generation"] == 3
    assert api.delete("pods", "p") == going
    assert api.delete("pods", "p", gracePeriodSeconds=60) == going
    assert api.delete("pods", "p", gracePeriodSeconds=5)["metadata"]["deletionGracePeriodSeconds"] == 5
    api.delete("pods", "p", gracePeriodSeconds=0)
    assert api.names("pods") == []


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", None])
def test_pods_that_do_not_run_go_at_once(api: Api, phase: str | None) -> None:
    if phase is None:
        api.post("pods", {"metadata": {"name": "p"}, "spec": POD_SPEC})
    else:
        running_pod(api)
        api.merge("pods", "p", {"status": {"phase": phase}}, "status")
    api.delete("pods", "p")
    assert api.names("pods") == []


def test_grace_and_finalizers_together(api: Api) -> None:
    running_pod(api, finalizers=["x/y"])
    api.delete("pods", "p")
    api.delete("pods", "p", gracePeriodSeconds=0)
    assert api.get("pods", "p")["metadata"]["deletionGracePeriodSeconds"] == 0
    api.merge("pods", "p", {"metadata": {"finalizers": None}})
    assert api.names("pods") == []


def test_eviction_marks_and_deletes(api: Api) -> None:
    running_pod(api)
    api.call("POST", api.path("pods", "p", "eviction"), {"metadata": {"name": "p"}})
    pod = api.get("pods", "p")
    assert pod["metadata"]["deletionTimestamp"]
    marks = [c for c in pod["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    assert [m["reason"] for m in marks] == ["EvictionByEvictionAPI"]


def test_eviction_respects_a_budget(api: Api) -> None:
    running_pod(api, labels={"app": "a"})
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}
    api.call("POST", budgets, {"metadata": {"name": "b"}, "spec": spec})
    with pytest.raises(Refused) as refused:
        api.call("POST", api.path("pods", "p", "eviction"), {"metadata": {"name": "p"}})
    assert refused.value.code == 429


def test_delete_collection(api: Api) -> None:
    for n in range(3):
        api.post("configmaps", {"metadata": {"name": f"a{n}", "labels": {"x": str(n % 2)}}})
    api.call("DELETE", api.path("configmaps"), None, labelSelector="x=0")
    assert api.names("configmaps") == ["a1"]
