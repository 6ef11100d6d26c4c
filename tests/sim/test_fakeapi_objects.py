"""Creating, reading and updating: versions, generations, status, conflicts, immutable fields, types."""

from __future__ import annotations

import re
from typing import Any

import pytest
from helpers import POD_SPEC, Api, Refused, job


@pytest.fixture
def api() -> Api:
    return Api()


def test_creation_sets_what_the_server_sets(api: Api) -> None:
    made = api.post("configmaps", {"metadata": {"name": "a", "uid": "mine", "generation": 7}, "data": {"k": "v"}})
    meta = made["metadata"]
    assert re.fullmatch(r"[0-9a-f-]{36}", meta["uid"])
    assert int(meta["resourceVersion"]) > 0
    assert meta["creationTimestamp"].endswith("Z")
    assert meta["namespace"] == "default"
    assert "generation" not in meta
    assert api.get("configmaps", "a") == made


def test_answers_are_copies(api: Api) -> None:
    api.post("configmaps", {"metadata": {"name": "a"}, "data": {"k": "v"}})["data"]["k"] = "changed"
    assert api.get("configmaps", "a")["data"] == {"k": "v"}


def test_each_write_takes_the_next_version_and_uids_differ(api: Api) -> None:
    first = api.post("configmaps", {"metadata": {"name": "a"}})
    second = api.post("configmaps", {"metadata": {"name": "b"}})
    assert int(second["metadata"]["resourceVersion"]) == int(first["metadata"]["resourceVersion"]) + 1
    api.delete("configmaps", "a")
    again = api.post("configmaps", {"metadata": {"name": "a"}})
    assert again["metadata"]["uid"] != first["metadata"]["uid"]
    assert int(again["metadata"]["resourceVersion"]) == int(second["metadata"]["resourceVersion"]) + 2


def test_a_write_that_changes_nothing_is_no_write(api: Api) -> None:
    made = api.post("configmaps", {"metadata": {"name": "a"}, "data": {"k": "v"}})
    api.server.clock.advance(100)
    mark = api.server.writes.mark()
    assert api.put("configmaps", made) == made
    assert api.merge("configmaps", "a", {"data": {"k": "v"}}) == made
    assert api.server.writes.since(mark) == []


def test_generate_name(api: Api) -> None:
    names = {api.post("configmaps", {"metadata": {"generateName": "x-"}})["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(re.fullmatch(r"x-[a-z0-9]{5}", name) for name in names)


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        ({"metadata": {}}, 422, "Invalid"),
        ({"metadata": {"name": "Upper"}}, 422, "Invalid"),
        ({"metadata": {"name": "a", "namespace": "other"}}, 400, "BadRequest"),
        ({"kind": "Secret", "metadata": {"name": "a"}}, 400, "BadRequest"),
        ({"metadata": {"name": "a"}, "data": {"k": 1}}, 400, "BadRequest"),
        ({"metadata": {"name": "a"}, "data": {"bad key": "v"}}, 422, "Invalid"),
        ({"metadata": {"name": "a", "labels": {"x": "v" * 64}}}, 422, "Invalid"),
        ({"metadata": {"name": "a", "resourceVersion": "1"}}, 500, None),
        ("text", 400, "BadRequest"),
    ],
)
def test_refused_creations(api: Api, body: Any, code: int, reason: str | None) -> None:
    with pytest.raises(Refused) as refused:
        api.call("POST", api.path("configmaps"), body)
    assert (refused.value.code, refused.value.reason) == (code, reason)
    assert api.names("configmaps") == []


def test_status_bodies_name_what_they_are_about(api: Api) -> None:
    api.post("jobs", job("a"))
    with pytest.raises(Refused) as refused:
        api.post("jobs", job("a"))
    assert refused.value.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'jobs.batch "a" already exists',
        "reason": "AlreadyExists",
        "code": 409,
        "details": {"name": "a", "kind": "jobs", "group": "batch"},
    }
    with pytest.raises(Refused) as refused:
        api.get("configmaps", "b")
    assert refused.value.body["details"] == {"name": "b", "kind": "configmaps"}
    assert (refused.value.code, refused.value.reason) == (404, "NotFound")


def test_namespaces_must_exist(api: Api) -> None:
    with pytest.raises(Refused) as refused:
        api.call("POST", "/api/v1/namespaces/nowhere/configmaps", {"metadata": {"name": "a"}})
    assert refused.value.code == 404
    assert refused.value.body["details"]["kind"] == "namespaces"


def test_generation_follows_the_spec_and_nothing_else(api: Api) -> None:
    made = api.post("jobs", job("a"))
    assert made["metadata"]["generation"] == 1
    assert api.merge("jobs", "a", {"metadata": {"labels": {"x": "y"}}})["metadata"]["generation"] == 1
    assert api.merge("jobs", "a", {"status": {"active": 1}}, "status")["metadata"]["generation"] == 1
    assert api.merge("jobs", "a", {"spec": {"suspend": True}})["metadata"]["generation"] == 2


@pytest.mark.parametrize("plural", ["jobs", "widgets"])
def test_status_is_a_separate_door(api: Api, plural: str) -> None:
    body = job("a") if plural == "jobs" else {"metadata": {"name": "a"}, "spec": {"x": 1}}
    made = api.post(plural, {**body, "status": {"active": 5}})
    assert not made.get("status")
    kept = api.merge(plural, "a", {"status": {"active": 5}, "metadata": {"labels": {"x": "y"}}})
    assert not kept.get("status")
    status = api.merge(plural, "a", {"status": {"active": 5}, "spec": {"suspend": True, "x": 2}}, "status")
    assert status["status"] == {"active": 5}
    assert status["spec"] == made["spec"]
    current = api.get(plural, "a")
    del current["status"]
    assert api.put(plural, current)["status"] == {"active": 5}


def test_status_of_a_custom_resource_leaves_metadata_alone(api: Api) -> None:
    made = api.post("widgets", {"metadata": {"name": "a"}, "spec": {}})
    body = {**made, "metadata": {**made["metadata"], "labels": {"x": "y"}}, "status": {"n": 1}}
    assert "labels" not in api.put("widgets", body, "status")["metadata"]


@pytest.mark.parametrize("verb", ["put", "merge"])
def test_optimistic_concurrency(api: Api, verb: str) -> None:
    old = api.post("configmaps", {"metadata": {"name": "a"}})
    new = api.merge("configmaps", "a", {"data": {"k": "1"}})

    def write(version: str | None) -> Any:
        meta = {"name": "a"} | ({"resourceVersion": version} if version else {})
        body = {"metadata": meta, "data": {"k": "2"}}
        return api.put("configmaps", body) if verb == "put" else api.merge("configmaps", "a", body)

    with pytest.raises(Refused) as refused:
        write(old["metadata"]["resourceVersion"])
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    write(new["metadata"]["resourceVersion"])
    write(None)


def test_some_kinds_insist_on_the_version(api: Api) -> None:
    for plural in ("leases", "widgets"):
        made = api.post(plural, {"metadata": {"name": "a"}, "spec": {}})
        del made["metadata"]["resourceVersion"]
        with pytest.raises(Refused) as refused:
            api.put(plural, made)
        assert refused.value.code == 422


def test_put_creates_only_some_kinds(api: Api) -> None:
    assert api.put("leases", {"metadata": {"name": "a"}, "spec": {"holderIdentity": "x"}})["metadata"]["uid"]
    with pytest.raises(Refused) as refused:
        api.put("configmaps", {"metadata": {"name": "a"}})
    assert refused.value.code == 404


def test_another_uid_is_another_object(api: Api) -> None:
    made = api.post("configmaps", {"metadata": {"name": "a"}})
    made["metadata"]["uid"] = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(Refused) as refused:
        api.put("configmaps", made)
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    with pytest.raises(Refused) as refused:
        api.merge("configmaps", "a", {"metadata": {"uid": made["metadata"]["uid"]}})
    assert refused.value.code == 422


def test_string_data_lands_encoded_in_data(api: Api) -> None:
    made = api.post("secrets", {"metadata": {"name": "a"}, "data": {"x": "MQ=="}, "stringData": {"x": "2", "y": "z"}})
    assert made["data"] == {"x": "Mg==", "y": "eg=="}
    assert "stringData" not in made
    assert made["type"] == "Opaque"


@pytest.mark.parametrize("plural", ["secrets", "configmaps"])
def test_immutable_means_it(api: Api, plural: str) -> None:
    api.post(plural, {"metadata": {"name": "a"}, "data": {"x": "MQ=="}, "immutable": True})
    api.merge(plural, "a", {"metadata": {"labels": {"x": "y"}}})
    changes: list[dict[str, Any]] = [{"data": {"x": "Mg=="}}, {"immutable": False}, {"immutable": None}]
    for change in changes:
        with pytest.raises(Refused) as refused:
            api.merge(plural, "a", change)
        assert refused.value.code == 422


@pytest.mark.parametrize(
    "change",
    [
        {"completions": 5},
        {"completionMode": "NonIndexed"},
        {"template": {"spec": {"restartPolicy": "OnFailure"}}},
        {"template": {"spec": {"nodeSelector": {"a": "b"}}}},
        {"podFailurePolicy": {"rules": []}},
        {"selector": {"matchLabels": {"a": "b"}}},
    ],
    ids=str,
)
def test_frozen_parts_of_a_job(api: Api, change: dict[str, Any]) -> None:
    api.post("jobs", job("a"))
    with pytest.raises(Refused) as refused:
        api.merge("jobs", "a", {"spec": change})
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")


def test_a_suspended_job_may_still_be_placed(api: Api) -> None:
    api.post("jobs", job("a", suspend=True))
    change = {"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}}
    assert api.merge("jobs", "a", change)["spec"]["template"]["spec"]["nodeSelector"] == {"a": "b"}


def test_jobs_get_a_selector_of_their_own(api: Api) -> None:
    made = api.post("jobs", job("a"))
    uid = made["metadata"]["uid"]
    assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert made["spec"]["template"]["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "a"


def test_a_running_pod_is_mostly_frozen(api: Api) -> None:
    api.post("pods", {"metadata": {"name": "a"}, "spec": POD_SPEC})
    with pytest.raises(Refused):
        api.merge("pods", "a", {"spec": {"nodeSelector": {"a": "b"}}})
    with pytest.raises(Refused):
        api.merge("pods", "a", {"spec": {"nodeName": "n"}})
    assert api.merge("pods", "a", {"spec": {"activeDeadlineSeconds": 9}})["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({**POD_SPEC, "nonsense": 1}, "spec.nonsense"),
        ({**POD_SPEC, "containers": [{"name": "c", "image": "i", "evn": []}]}, "spec.containers[0].evn"),
    ],
)
def test_unknown_fields_are_dropped_or_refused(api: Api, spec: dict[str, Any], field: str) -> None:
    body = {"metadata": {"name": "a"}, "spec": spec}
    with pytest.raises(Refused) as refused:
        api.post("pods", body, fieldValidation="Strict")
    assert refused.value.code == 400
    assert field in str(refused.value)
    made = api.post("pods", body)
    assert "nonsense" not in made["spec"]
    assert "evn" not in made["spec"]["containers"][0]


@pytest.mark.parametrize(
    "container",
    [
        {"name": "c", "image": "i", "env": [{"name": "A", "value": 1}]},
        {"name": "c", "image": "i", "command": "sh"},
        {"name": "c", "image": "i", "ports": [{"containerPort": "80"}]},
        {"name": "c", "image": "i", "resources": {"limits": {"cpu": True}}},
    ],
    ids=str,
)
def test_wrong_types_are_refused(api: Api, container: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        api.post("pods", {"metadata": {"name": "a"}, "spec": {**POD_SPEC, "containers": [container]}})
    assert refused.value.code == 400


def test_quantities_may_be_numbers(api: Api) -> None:
    container = {"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": 8}}}
    made = api.post("pods", {"metadata": {"name": "a"}, "spec": {**POD_SPEC, "containers": [container]}})
    assert made["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    assert made["spec"]["containers"][0]["resources"]["requests"] == {"nvidia.com/gpu": "8"}


def test_services_keep_their_address(api: Api) -> None:
    made = api.post("services", {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})
    address = made["spec"]["clusterIP"]
    assert made["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    again = api.put("services", {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 81}]}})
    assert again["spec"]["clusterIP"] == address
    with pytest.raises(Refused):
        api.merge("services", "a", {"spec": {"clusterIP": "10.0.0.9"}})
    with pytest.raises(Refused):
        api.post("services", {"metadata": {"name": "b"}, "spec": {}})


def test_dry_run_stores_nothing(api: Api) -> None:
    assert api.post("configmaps", {"metadata": {"name": "a"}}, dryRun="All")["metadata"]["name"] == "a"
    assert api.names("configmaps") == []


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/apis/batch/v2/jobs", 404),
        ("GET", "/api/v1/namespaces/default/pods/a/logs", 404),
        ("POST", "/api/v1/namespaces/default/pods/a", 405),
        ("PUT", "/api/v1/namespaces/default/configmaps", 405),
        ("GET", "/nonsense", 404),
    ],
)
def test_paths_that_lead_nowhere(api: Api, method: str, path: str, code: int) -> None:
    with pytest.raises(Refused) as refused:
        api.call(method, path, {})
    assert refused.value.code == code
