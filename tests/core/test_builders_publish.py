"""The publish pod with and without a serving image: which container has what, and nothing more."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from finetune_api.status import PublishStatus, Resolved
from finetune_operator.core.builders.publish import build_publish, missing_image, served_image
from finetune_operator.core.plan import parse_spec
from tests.core.build import CONFIG, ftj, merge, resolved, ts

SERVING = replace(CONFIG, serving_image="vllm:1")
PUBLISH = PublishStatus(index=1, spec_digest="s", job="bot-publish-1", created_at=ts(100))


def pod(spec: dict[str, Any] | None = None, *, config: Any = SERVING) -> dict[str, Any]:
    job = ftj(spec)
    made = build_publish(job, parse_spec(job), Resolved.model_validate(resolved(spec)), PUBLISH, config)
    template: dict[str, Any] = made["spec"]["template"]
    return template


def test_commits_of_the_hub_reach_the_publisher() -> None:
    pins = {"hf://acme/bot": "a" * 40}
    known = Resolved.model_validate(resolved() | {"pins": pins})
    job = ftj()
    made = build_publish(job, parse_spec(job), known, PUBLISH, SERVING)
    config = json.loads(made["spec"]["template"]["metadata"]["annotations"]["finetune.dev/run-config"])
    assert config["pins"] == pins


def containers(spec: dict[str, Any] | None = None, *, config: Any = SERVING) -> dict[str, dict[str, Any]]:
    found = pod(spec, config=config)["spec"]
    return {c["name"]: c for c in [*found.get("initContainers", []), *found["containers"]]}


def check(**fields: Any) -> dict[str, Any]:
    return {"publish": {"servedCheck": fields}}


def told(spec: dict[str, Any] | None = None, *, config: Any = SERVING) -> str | None:
    config_text = pod(spec, config=config)["metadata"]["annotations"]["finetune.dev/run-config"]
    image: str | None = json.loads(config_text).get("servingImage")
    return image


def test_without_a_serving_image_one_container_does_it_all() -> None:
    made = containers(config=CONFIG)
    assert list(made) == ["main"]
    assert made["main"]["args"] == ["publish"]
    assert told(config=CONFIG) is None


def test_with_one_three_follow_each_other() -> None:
    made = containers()
    assert list(made) == ["prepare", "served-check", "main"]
    assert [made[name]["image"] for name in made] == ["trainer:1", "vllm:1", "trainer:1"]
    assert made["prepare"]["args"] == ["publish", "--part", "prepare"]
    assert made["main"]["args"] == ["publish", "--part", "finish"]
    assert made["served-check"]["command"] == ["python3", "/var/finetune/publish/served_check.py"]
    assert made["served-check"]["args"] == ["--timeout", "900", "--"]
    assert told() == "vllm:1"


def test_the_serving_image_sees_the_model_and_nobodys_secrets() -> None:
    served = containers({"model": {"uri": "pvc://models/base", "secretRef": {"name": "s3"}}})["served-check"]
    assert [mount["name"] for mount in served["volumeMounts"]] == ["scratch", "tmp", "shm"]
    assert "ports" not in served


def test_every_container_is_restricted() -> None:
    for container in containers().values():
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod()["spec"]["securityContext"]["runAsNonRoot"] is True


def test_its_own_settings_reach_it() -> None:
    spec = check(
        image="vllm:2",
        args=["--tensor-parallel-size=2"],
        env=[{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}],
        timeout="1m30s",
        resources={"gpus": 2, "requests": {"memory": "8Gi"}, "limits": {"memory": "16Gi"}},
    )
    served = containers(spec)["served-check"]
    assert served["image"] == "vllm:2"
    assert served["args"] == ["--timeout", "90", "--", "--tensor-parallel-size=2"]
    assert {"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"} in served["env"]
    assert served["resources"] == {
        "requests": {"memory": "8Gi"},
        "limits": {"memory": "16Gi", "nvidia.com/gpu": 2},
    }


def test_what_is_not_set_is_as_for_the_publish_pod() -> None:
    asked = {"publish": {"resources": {"gpus": 4, "limits": {"memory": "32Gi"}}}}
    made = containers(asked)
    assert made["served-check"]["resources"] == made["main"]["resources"] == made["prepare"]["resources"]
    assert made["main"]["resources"]["limits"] == {"memory": "32Gi", "nvidia.com/gpu": 4}
    none = merge(asked, {"publish": {"servedCheck": {"resources": {"gpus": 0}}}})
    assert "nvidia.com/gpu" not in containers(none)["served-check"]["resources"]["limits"]


@pytest.mark.parametrize(
    ("spec", "image"),
    [
        ({}, "vllm:1"),
        (check(enabled=True), "vllm:1"),
        (check(enabled=False), None),
        (check(enabled=False, image="vllm:2"), None),
        (check(image="vllm:2"), "vllm:2"),
        ({"output": {"merge": False}}, None),
        ({"objective": {"type": "Reward"}}, None),
        ({"objective": {"type": "Classification", "classification": {"labels": ["no", "yes"]}}}, None),
        ({"output": {"merge": False}, "method": {"type": "FullFineTune"}}, "vllm:1"),
    ],
)
def test_when_there_is_a_check(spec: dict[str, Any], image: str | None) -> None:
    assert served_image(parse_spec(ftj(spec)), SERVING) == image
    assert ("served-check" in containers(spec)) == (image is not None)
    assert told(spec) == image


def test_a_check_that_was_asked_for_but_has_no_image_is_said() -> None:
    words = missing_image(parse_spec(ftj(check(enabled=True))), CONFIG)
    assert words is not None
    assert words.startswith("spec.publish.servedCheck.image: not set")
    assert missing_image(parse_spec(ftj(check(enabled=True))), SERVING) is None
    assert missing_image(parse_spec(ftj(check(enabled=True, image="vllm:2"))), CONFIG) is None
    assert missing_image(parse_spec(ftj({})), CONFIG) is None


def test_a_trackers_secret_is_mounted_as_a_file_and_in_no_environment() -> None:
    to = {"tracking": {"wandb": {"project": "p", "secretRef": {"name": "wandb"}}}}
    made = pod(to)["spec"]
    assert "wandb" in [volume.get("secret", {}).get("secretName") for volume in made["volumes"]]
    assert "WANDB_API_KEY" not in json.dumps(made)
