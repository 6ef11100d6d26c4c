from __future__ import annotations

import json

from finetune_api.running import Resources
from finetune_api.serveconfig import ServeConfig
from finetune_api.serving import ServingResources
from finetune_operator.core.builders.restricted import (
    claim_volumes,
    claims_in,
    container_security,
    identify,
    owner_reference,
    place,
    pod_spec,
    run_config_annotation,
    run_config_mount,
    run_config_volume,
    secret_volumes,
    work_volumes,
)

OWNER = {"metadata": {"name": "bot", "uid": "u"}}


def test_a_pod_satisfies_the_restricted_standard_and_carries_no_token() -> None:
    pod = pod_spec([], [], grace_seconds=7)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["terminationGracePeriodSeconds"] == 7
    assert container_security()["capabilities"] == {"drop": ["ALL"]}
    assert container_security()["allowPrivilegeEscalation"] is False


def test_the_config_travels_as_an_annotation_that_is_mounted() -> None:
    told = ServeConfig(namespace="team", name="bot", model_uri="s3://models/bot")
    ((key, text),) = run_config_annotation(told).items()
    assert ServeConfig.model_validate(json.loads(text)) == told
    (item,) = run_config_volume()["downwardAPI"]["items"]
    assert item["fieldRef"]["fieldPath"] == f"metadata.annotations['{key}']"
    assert f"{run_config_mount()['mountPath']}/{item['path']}" == "/etc/finetune/run.json"


def test_every_mount_has_its_volume() -> None:
    for volumes, mounts in (
        work_volumes("1Gi"),
        work_volumes(None),
        secret_volumes(["a", "b"], optional=True),
        claim_volumes(["c"], read_only=True),
    ):
        assert [v["name"] for v in volumes] == [m["name"] for m in mounts]
    assert "/dev/shm" not in [m["mountPath"] for m in work_volumes(None)[1]]


def test_secrets_are_read_only_and_claims_as_asked() -> None:
    (volume,), (mount,) = secret_volumes(["s"], optional=False)
    assert (volume["secret"]["secretName"], volume["secret"]["optional"], mount["readOnly"]) == ("s", False, True)
    assert "readOnly" not in claim_volumes(["c"])[1][0]
    assert claim_volumes(["c"], read_only=True)[1][0]["readOnly"] is True


def test_claims_are_found_in_uris() -> None:
    assert claims_in(["pvc://b/x", "s3://bucket/y", None, "pvc://a", "pvc://b/z"]) == ["a", "b"]


def test_the_owner_controls_its_children_unless_it_shares_them() -> None:
    ref = owner_reference(OWNER, kind="ModelDeployment")
    assert (ref["kind"], ref["uid"], ref["controller"]) == ("ModelDeployment", "u", True)
    assert "controller" not in owner_reference(OWNER, controller=False)


def test_both_kinds_resources_say_who_and_where() -> None:
    fields = {
        "node_selector": {"pool": "gpu"},
        "scheduler_name": "own",
        "runtime_class_name": "nvidia",
        "service_account_name": "reader",
        "tolerations": [{"key": "gpu"}],
        "image_pull_secrets": [{"name": "registry"}],
    }
    for where in (Resources.model_validate(fields), ServingResources.model_validate(fields)):
        pod: dict[str, object] = {}
        identify(pod, where)
        place(pod, where)
        assert pod == {
            "nodeSelector": {"pool": "gpu"},
            "schedulerName": "own",
            "runtimeClassName": "nvidia",
            "serviceAccountName": "reader",
            "tolerations": [{"key": "gpu"}],
            "imagePullSecrets": [{"name": "registry"}],
        }
