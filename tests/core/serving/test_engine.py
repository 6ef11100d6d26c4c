from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from finetune_api.deployment_status import RevisionRecord
from finetune_api.serveconfig import ServeConfig
from finetune_operator.core.serving.builders.common import revision_selector
from finetune_operator.core.serving.builders.engine import (
    build_engine,
    build_engine_policy,
    build_service,
    engine_image,
    no_image_message,
    parse_record,
    service_url,
)
from tests.core.serving.leaves import (
    CONFIG,
    DIGEST,
    modeldeployment,
    record,
    same_as_golden,
    source,
    spec_of,
    stored,
)

FULL: dict[str, Any] = {
    "model": {"servedName": "support/bot"},
    "engine": {
        "image": "registry.example.com/vllm:custom",
        "args": ["--enable-prefix-caching", "--max-num-seqs=64"],
        "env": [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}, {"name": "HF_HUB_OFFLINE", "value": "0"}],
        "maxModelLen": 8192,
        "dtype": "BF16",
        "tensorParallel": 4,
        "gpuMemoryUtilizationPercent": 85,
    },
    "resources": {
        "gpus": 8,
        "gpuResource": "amd.com/gpu",
        "requests": {"cpu": "8", "memory": "64Gi"},
        "limits": {"memory": "128Gi"},
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "schedulerName": "volcano",
        "priorityClassName": "serving",
        "runtimeClassName": "nvidia",
        "serviceAccountName": "reader",
        "imagePullSecrets": [{"name": "registry"}],
        "sharedMemory": "16Gi",
    },
    "rollout": {"drainTimeout": "90s"},
}


def engine(
    spec: dict[str, Any] | None = None, made: RevisionRecord | None = None, config: Any = CONFIG
) -> dict[str, Any]:
    md = modeldeployment(spec)
    return build_engine(md, spec_of(md), made or record(), config, 2)


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def main_of(deployment: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(deployment)["containers"]
    return dict(container)


def args_of(spec: dict[str, Any]) -> list[str]:
    return list(main_of(engine(spec))["args"])


def test_the_shortest_deployments_template_is_as_it_always_was() -> None:
    same_as_golden("engine-shortest", engine())


def test_a_full_specs_template_is_as_it_always_was() -> None:
    same_as_golden(
        "engine-full", engine(FULL, record(image="registry.example.com/vllm:custom", served_name="support/bot"))
    )


def test_a_model_on_a_claim_is_served_from_it() -> None:
    on_claim = record(model=source(uri="pvc://models/bots//v2/", secret=None))
    made = engine({"resources": {"gpus": 0}}, on_claim)
    same_as_golden("engine-claim", made)
    mounts = {m["mountPath"]: m for m in main_of(made)["volumeMounts"]}
    assert mounts["/model"] == {"name": "claim-0", "mountPath": "/model", "readOnly": True, "subPath": "bots/v2"}
    (fetch,) = pod_of(made)["initContainers"]
    assert {m["mountPath"] for m in fetch["volumeMounts"] if m["name"] == "claim-0"} == {"/model", "/mnt/pvc/models"}
    assert "model" not in [v["name"] for v in pod_of(made)["volumes"]]
    assert "subPath" not in str(engine({}, record(model=source(uri="pvc://models"))))


def test_the_service_and_the_policy_are_as_they_always_were() -> None:
    same_as_golden("service", build_service(modeldeployment(), record()))
    same_as_golden("engine-policy", build_engine_policy(modeldeployment()))


def test_what_a_template_does_not_depend_on() -> None:
    """Installation settings of an upgrade, steps and replicas never reach the template of a revision that exists."""
    made = pod_of(engine())
    config = replace(CONFIG, serving_image="vllm:2", gateway="x/y", gateway_domain="other.org")
    assert (
        pod_of(engine({"replicas": 9, "rollout": {"steps": [{"weight": 10, "pause": "Manual"}]}}, config=config))
        == made
    )
    assert pod_of(engine({"resources": {"gpus": 1}})) == made


def test_every_container_is_restricted_and_the_pod_has_no_token() -> None:
    pod = pod_of(engine(FULL))
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["containers"], *pod["initContainers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_only_the_fetching_container_sees_the_secret() -> None:
    made = engine()
    (fetch,) = pod_of(made)["initContainers"]
    assert "/var/run/finetune/secrets/team-s3" in [m["mountPath"] for m in fetch["volumeMounts"]]
    assert not any("secret" in m["name"] for m in main_of(made)["volumeMounts"])
    assert {m["mountPath"]: m.get("readOnly") for m in main_of(made)["volumeMounts"]}["/model"] is True
    assert not [v for v in pod_of(engine({}, record(model=source(secret=None))))["volumes"] if "secret" in v]


def test_fetch_is_told_which_model_and_which_digest() -> None:
    notes = engine()["spec"]["template"]["metadata"]["annotations"]
    told = ServeConfig.model_validate_json(notes["finetune.dev/run-config"])
    assert (told.model_uri, told.expected_digest, told.secret) == ("s3://models/bot", DIGEST, "team-s3")
    assert (told.namespace, told.name, told.revision) == ("team", "bot", "bcdfghjklm")


def test_unset_fields_are_left_to_vllm() -> None:
    assert args_of({}) == [
        "/model",
        "--host=0.0.0.0",
        "--port=8000",
        "--served-model-name=bot",
        "--load-format=safetensors",
        "--shutdown-timeout=300",
    ]


@pytest.mark.parametrize(
    ("spec", "args"),
    [
        ({"resources": {"gpus": 4}}, ["--tensor-parallel-size=4"]),
        ({"resources": {"gpus": 4}, "engine": {"tensorParallel": 2}}, ["--tensor-parallel-size=2"]),
        ({"resources": {"gpus": 0}}, []),
        ({"resources": {"gpus": 0}, "engine": {"tensorParallel": 2}}, ["--tensor-parallel-size=2"]),
        ({"engine": {"dtype": "Auto"}}, ["--dtype=auto"]),
        ({"engine": {"dtype": "FP32", "maxModelLen": 512}}, ["--max-model-len=512", "--dtype=float32"]),
        ({"engine": {"gpuMemoryUtilizationPercent": 5}}, ["--gpu-memory-utilization=0.05"]),
        ({"engine": {"gpuMemoryUtilizationPercent": 100}}, ["--gpu-memory-utilization=1.00"]),
    ],
)
def test_fields_become_flags(spec: dict[str, Any], args: list[str]) -> None:
    assert [a for a in args_of(spec) if a not in args_of({})] == args


def test_a_shutdown_timeout_of_the_users_own_is_the_only_one() -> None:
    for flag in ("--shutdown-timeout=7", "--shutdown_timeout"):
        assert [a for a in args_of({"engine": {"args": [flag]}}) if "shutdown" in a] == [flag]


def test_gpus_are_a_limit_and_zero_asks_for_none() -> None:
    assert main_of(engine())["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    assert main_of(engine({"resources": {"gpus": 0, "limits": {"memory": "3Gi"}}}))["resources"] == {
        "limits": {"memory": "3Gi"}
    }


def test_a_stopping_pod_has_the_time_it_needs() -> None:
    made = engine({"rollout": {"drainTimeout": "1m30s"}})
    sleep = main_of(made)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep >= 5
    assert "--shutdown-timeout=90" in main_of(made)["args"]
    assert pod_of(made)["terminationGracePeriodSeconds"] > sleep + 90


def test_the_kubelet_leaves_a_slow_start_alone() -> None:
    startup = main_of(engine())["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 24 * 3600


def test_variables_of_the_user_replace_ours() -> None:
    env = {entry["name"]: entry["value"] for entry in main_of(engine(FULL))["env"]}
    assert len(env) == len(main_of(engine(FULL))["env"])
    assert env["HF_HUB_OFFLINE"] == "0"
    assert env["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert env["DO_NOT_TRACK"] == env["VLLM_NO_USAGE_STATS"] == "1"


def test_the_home_is_writable_and_an_images_own_caches_are_left_alone() -> None:
    env = {entry["name"]: entry["value"] for entry in main_of(engine())["env"]}
    assert env["HOME"] in [m["mountPath"] for m in main_of(engine())["volumeMounts"] if not m.get("readOnly")]
    assert env["USER"]
    assert not [name for name in env if "CACHE" in name]


def test_pods_are_selected_by_revision_and_role() -> None:
    made, service = engine(), build_service(modeldeployment(), record())
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert labels == made["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert labels["finetune.dev/revision"] == "bcdfghjklm"
    assert labels["finetune.dev/role"] == "engine"
    assert dict(part.split("=") for part in revision_selector("bot", "bcdfghjklm").split(",")) == labels
    policy = build_engine_policy(modeldeployment())["spec"]["podSelector"]["matchLabels"]
    assert policy.items() <= labels.items()


def test_a_deployment_carries_its_record() -> None:
    assert parse_record(stored(engine())) == record()
    assert parse_record({"metadata": {}}) is None
    assert parse_record({"metadata": {"annotations": {}}}) is None
    for broken in ("{", "[]", json.dumps({"revision": "x"})):
        assert parse_record({"metadata": {"annotations": {"finetune.dev/record": broken}}}) is None


def test_the_image_is_the_specs_else_the_installations() -> None:
    assert engine_image(spec_of(modeldeployment()), CONFIG) == "vllm:1"
    assert engine_image(spec_of(modeldeployment({"engine": {"image": "own:2"}})), CONFIG) == "own:2"
    assert (
        engine_image(spec_of(modeldeployment({"engine": {"maxModelLen": 64}})), replace(CONFIG, serving_image="")) == ""
    )
    assert "spec.engine.image" in no_image_message()


def test_a_revision_is_reached_by_its_services_name() -> None:
    assert service_url(modeldeployment(), "bcd", CONFIG) == "http://bot-bcd.team.svc.cluster.local"


def test_a_starting_engine_ends_at_sigterm_and_an_idle_connection_outlives_any_proxys() -> None:
    made = engine()
    assert pod_of(made)["shareProcessNamespace"] is True
    env = {entry["name"]: entry["value"] for entry in main_of(made)["env"]}
    assert int(env["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]) > 3600
    chosen = main_of(engine({"engine": {"env": [{"name": "VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "value": "9"}]}}))["env"]
    assert {"name": "VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "value": "9"} in chosen
