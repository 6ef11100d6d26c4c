"""Custom resources by their CRD: pruning, defaults, validation, discovery; shown on our own FineTuneJob."""

from __future__ import annotations

from typing import Any

import pytest
from fakeapi import FakeApiServer, Frontend, install_crd
from fakeapi.strategies import Cause
from helpers import Api, Refused, owned

from tests.crds import crd

CRD = crd("finetunejobs")
PATH = "/apis/finetune.dev/v1alpha1/namespaces/default/finetunejobs"
SHORTEST: dict[str, Any] = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "a"},
    "spec": {
        "model": {"uri": "s3://bucket/m"},
        "data": {"train": [{"uri": "s3://bucket/d.jsonl"}]},
        "method": {"type": "LoRA"},
    },
}


def serve(**hooks: Any) -> Api:
    server = FakeApiServer()
    install_crd(server, CRD, **hooks)
    return Api(Frontend(server))


def with_spec(**changes: Any) -> dict[str, Any]:
    return {**SHORTEST, "spec": {**SHORTEST["spec"], **changes}}


def test_defaults_are_filled_in() -> None:
    made = serve().call("POST", PATH, SHORTEST)
    schema = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert made["spec"]["suspend"] is False
    assert made["spec"]["retry"]["maxRestarts"] == 3
    assert set(made["spec"]) >= {name for name, s in schema.items() if "default" in s}
    assert made["metadata"]["generation"] == 1


def test_defaults_belong_to_who_created_but_not_to_who_applied() -> None:
    api = serve()
    posted = api.call("POST", PATH, SHORTEST, fieldManager="p")
    assert "f:suspend" in owned(posted)["p"]["f:spec"]
    body = {**SHORTEST, "metadata": {"name": "b"}}
    applied = api.call("PATCH", f"{PATH}/b", body, "application/apply-patch+yaml", fieldManager="m")
    assert set(owned(applied)["m"]["f:spec"]) == {"f:data", "f:method", "f:model"}
    assert applied["spec"]["suspend"] is False


def test_unknown_fields_are_pruned_or_refused() -> None:
    api = serve()
    assert "nonsense" not in api.call("POST", PATH, with_spec(nonsense=1))["spec"]
    with pytest.raises(Refused) as refused:
        api.call("POST", PATH, {**with_spec(nonsense=1), "metadata": {"name": "b"}}, fieldValidation="Strict")
    assert refused.value.code == 400
    assert "spec.nonsense" in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {"suspend": "yes"},
        {"method": {"type": "Magic"}},
        {"model": {}},
        {"resources": {"nodes": 0}},
        {"retry": {"maxRestarts": -1}},
    ],
    ids=str,
)
def test_wrong_values_are_refused_with_their_field(change: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        serve().call("POST", PATH, with_spec(**change))
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    (name,) = change
    assert any(cause["field"].startswith(f"spec.{name}") for cause in refused.value.body["details"]["causes"])


def test_hooks_see_old_and_new() -> None:
    def no_change(new: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
        if old is not None and new["spec"]["model"] != old["spec"]["model"]:
            return [Cause("spec.model", "FieldValueInvalid", "is frozen")]
        return []

    api = serve(validate=no_change)
    api.call("POST", PATH, SHORTEST)
    with pytest.raises(Refused) as refused:
        api.call(
            "PATCH", f"{PATH}/a", {"spec": {"model": {"uri": "s3://bucket/other"}}}, "application/merge-patch+json"
        )
    assert "is frozen" in str(refused.value)


def test_status_is_validated_too() -> None:
    api = serve()
    made = api.call("POST", PATH, SHORTEST)
    with pytest.raises(Refused) as refused:
        api.call("PUT", f"{PATH}/a/status", {**made, "status": {"restarts": "many"}})
    assert refused.value.code == 422
    good = api.call("PUT", f"{PATH}/a/status", {**made, "status": {"restarts": 2}})
    assert good["status"]["restarts"] == 2
    assert good["metadata"]["generation"] == 1


def test_bodies_must_say_what_they_are() -> None:
    body = {k: v for k, v in SHORTEST.items() if k != "kind"}
    with pytest.raises(Refused) as refused:
        serve().call("POST", PATH, body)
    assert refused.value.code == 400


def test_strategic_patches_are_for_built_in_kinds() -> None:
    api = serve()
    api.call("POST", PATH, SHORTEST)
    with pytest.raises(Refused) as refused:
        api.call("PATCH", f"{PATH}/a", {}, "application/strategic-merge-patch+json")
    assert refused.value.code == 415


def test_discovery() -> None:
    api = serve()
    groups = {g["name"] for g in api.call("GET", "/apis")["groups"]}
    assert {"finetune.dev", "batch", "coordination.k8s.io"} <= groups
    served = {r["name"]: r for r in api.call("GET", "/apis/finetune.dev/v1alpha1")["resources"]}
    assert served["finetunejobs"]["kind"] == "FineTuneJob"
    assert served["finetunejobs"]["namespaced"] is True
    assert "finetunejobs/status" in served
    core = {r["name"] for r in api.call("GET", "/api/v1")["resources"]}
    assert {"pods", "pods/status", "pods/binding", "pods/eviction", "nodes"} <= core
    assert api.call("GET", "/version")["major"] == "1"
    assert api.call("GET", "/api")["versions"] == ["v1"]
    assert api.call("GET", "/readyz") == "ok"
