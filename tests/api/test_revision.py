"""Revision names are golden: a name that changes starts a rollout in every cluster that upgrades."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field

from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_api.revision import model_key, revision_name, trial_key
from finetune_api.serving import Engine, ServingResources

DIGEST = "sha256:" + "ab" * 32
SHORTEST: dict[str, Any] = {"model": {"uri": "s3://models/bot"}}
FULL: dict[str, Any] = {
    "model": {"uri": "s3://models/bot", "secretRef": {"name": "team-s3"}, "servedName": "support/bot"},
    "engine": {
        "image": "registry.example.com/vllm:custom",
        "args": ["--enable-prefix-caching", "--max-num-seqs=64"],
        "env": [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}],
        "maxModelLen": 8192,
        "dtype": "BF16",
        "tensorParallel": 4,
        "gpuMemoryUtilizationPercent": 85,
    },
    "replicas": 3,
    "resources": {
        "gpus": 8,
        "gpuResource": "amd.com/gpu",
        "requests": {"cpu": "8", "memory": "64Gi"},
        "limits": {"memory": "128Gi"},
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "sharedMemory": "16Gi",
    },
}


def name(spec: dict[str, Any], digest: str = DIGEST, served_name: str = "bot") -> str:
    return revision_name(ModelDeploymentSpec.model_validate(spec), digest, served_name=served_name)


def with_(spec: dict[str, Any], **blocks: dict[str, Any]) -> dict[str, Any]:
    return spec | {key: spec.get(key, {}) | block for key, block in blocks.items()}


@pytest.mark.parametrize(
    ("spec", "served_name", "expected"),
    [
        (SHORTEST, "bot", "z88ttvwvrq"),
        (SHORTEST, "support/bot", "pgcj876p9m"),
        (FULL, "support/bot", "67ljl5686c"),
        (SHORTEST | {"resources": {"gpus": 0}}, "bot", "rhcrjpnzqb"),
    ],
)
def test_names_are_what_they_always_were(spec: dict[str, Any], served_name: str, expected: str) -> None:
    assert name(spec, served_name=served_name) == expected


def test_keys_are_what_they_always_were() -> None:
    assert model_key("s3://models/bot", None, require_gate=True, secret=None) == "p9j7cndglh"
    assert model_key("s3://models/bot", DIGEST, require_gate=False, secret="team-s3") == "8tp7p6rxcx"
    assert trial_key(ModelDeploymentSpec.model_validate(SHORTEST)) == "c8t8xl8jt7"
    assert (
        trial_key(ModelDeploymentSpec.model_validate(SHORTEST | {"rollout": {"verify": {"prompts": ["x"]}}}))
        == "9w87bw9mqn"
    )


def test_a_name_fits_where_it_is_used() -> None:
    for digest in (DIGEST, "sha256:" + "0" * 64, "xxh3:" + "1" * 32):
        assert len(name(SHORTEST, digest)) == 10
        assert set(name(SHORTEST, digest)) <= set("bcdfghjklmnpqrstvwxz2456789")
    assert len(f"{'n' * 40}-verify-{name(SHORTEST)}") <= 63


CHANGING: dict[str, Any] = {
    "a secret": with_(FULL, model={"secretRef": {"name": "other"}}),
    "an image": with_(FULL, engine={"image": "vllm:2"}),
    "an argument": with_(FULL, engine={"args": ["--enable-prefix-caching"]}),
    "the order of arguments": with_(FULL, engine={"args": ["--max-num-seqs=64", "--enable-prefix-caching"]}),
    "a variable": with_(FULL, engine={"env": [{"name": "VLLM_LOGGING_LEVEL", "value": "INFO"}]}),
    "a length": with_(FULL, engine={"maxModelLen": 4096}),
    "a dtype": with_(FULL, engine={"dtype": "FP16"}),
    "a parallelism": with_(FULL, engine={"tensorParallel": 8}),
    "a share of memory": with_(FULL, engine={"gpuMemoryUtilizationPercent": 90}),
    "gpus": with_(FULL, resources={"gpus": 4}),
    "limits": with_(FULL, resources={"limits": {"memory": "64Gi"}}),
    "a place": with_(FULL, resources={"nodeSelector": {"pool": "other"}}),
    "a default that is now said": with_(FULL, resources={"schedulerName": "default-scheduler"}),
}


def test_what_the_pods_are_made_of_is_a_new_revision() -> None:
    names = {what: name(spec) for what, spec in CHANGING.items()} | {
        "nothing": name(FULL),
        "the digest": name(FULL, "sha256:" + "cd" * 32),
        "the served name": name(FULL, served_name="other"),
    }
    assert len(set(names.values())) == len(names)


def test_saying_a_default_is_a_choice() -> None:
    """Unset follows the installation, set stays: the two are different revisions even where they look the same."""
    assert name(SHORTEST | {"resources": {"gpus": 1}}) != name(SHORTEST)


@pytest.mark.parametrize(
    "spec",
    [
        with_(FULL, model={"uri": "s3://elsewhere/bot"}),
        FULL | {"model": {"fineTuneJobRef": {"name": "tune"}, "secretRef": {"name": "team-s3"}}},
        with_(FULL, model={"requireGate": False}),
        with_(FULL, model={"servedName": "passed-on-its-own"}),
        FULL | {"replicas": 9},
        FULL | {"traffic": {"hostnames": ["x.example.com"], "path": "/x"}},
        FULL | {"rollout": {"steps": [{"weight": 10, "pause": "Manual"}], "drainTimeout": "1m"}},
    ],
)
def test_where_it_lies_and_how_it_is_let_in_is_no_new_revision(spec: dict[str, Any]) -> None:
    assert name(spec) == name(FULL)


def test_what_means_the_same_has_the_same_name() -> None:
    assert name(SHORTEST | {"engine": {}, "resources": {}}) == name(SHORTEST)
    assert name(SHORTEST | {"engine": {"args": [], "env": []}, "resources": {"limits": {}}}) == name(SHORTEST)
    as_number = with_(FULL, resources={"requests": {"cpu": 8, "memory": "64Gi"}})
    assert name(as_number) == name(FULL)
    assert name(with_(FULL, engine={"env": [{"name": "A"}]})) == name(
        with_(FULL, engine={"env": [{"name": "A", "value": ""}]})
    )


def test_the_order_of_keys_and_the_defaults_of_the_crd_do_not_matter() -> None:
    backwards = {key: FULL[key] for key in reversed(FULL)}
    backwards["engine"] = {key: FULL["engine"][key] for key in reversed(FULL["engine"])}
    assert name(backwards) == name(FULL)
    stored = ModelDeploymentSpec.model_validate(FULL).to_wire()
    assert stored != FULL
    assert name(stored) == name(FULL)


def test_fields_that_a_later_version_adds_change_no_name() -> None:
    class NewerEngine(Engine):
        quantization: str | None = None
        adapters: list[str] | None = None

    class NewerResources(ServingResources):
        topology_key: str | None = None

    class NewerSpec(ModelDeploymentSpec):
        engine: NewerEngine | None = None
        resources: NewerResources | None = None
        autoscaling: dict[str, int] | None = None
        paused: bool = Field(default=False)

    for spec in (SHORTEST, FULL):
        newer = NewerSpec.model_validate(spec)
        assert revision_name(newer, DIGEST, served_name="bot") == name(spec)
    used = NewerSpec.model_validate(with_(FULL, engine={"quantization": "fp8"}))
    assert revision_name(used, DIGEST, served_name="bot") != name(FULL)


def test_a_model_is_verified_again_when_what_is_asked_of_it_changes() -> None:
    keys = [
        model_key("s3://a/b", None, require_gate=True, secret=None),
        model_key("s3://a/c", None, require_gate=True, secret=None),
        model_key("s3://a/b", DIGEST, require_gate=True, secret=None),
        model_key("s3://a/b", None, require_gate=False, secret=None),
        model_key("s3://a/b", None, require_gate=True, secret="s"),
    ]
    assert len(set(keys)) == len(keys)


def test_only_analysis_and_verification_make_a_new_trial() -> None:
    def trial(**rollout: Any) -> str:
        return trial_key(ModelDeploymentSpec.model_validate(SHORTEST | {"rollout": rollout}))

    assert trial(steps=[], maxSurge=4, progressDeadline="1h", abort={"scaleDownDelay": "5m"}) == trial()
    assert trial(verify={"maxLogprobDelta": "0.1"}) == trial()
    assert trial(verify={"maxLogprobDelta": "0.2"}) != trial()
    assert trial(analysis={"metrics": [{"name": "ErrorRate", "max": "0.01"}]}) != trial()
    assert trial(analysis={"minSamples": 10}) != trial(analysis={"minSamples": 20})
