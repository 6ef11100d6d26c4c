"""The environment the chart sets is the one the operator reads: same names, accepted values, nothing ignored."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.core.names import MANAGER
from finetune_operator.shell import config
from finetune_operator.shell.election import LEASE_NAME
from finetune_operator.shell.key import KEY_SECRET
from tests.chart.helm import NAMESPACE, REPO, Helm, Obj, of_kind, one, ours

VALUES = sorted((REPO / "tests" / "chart" / "values").glob("*.yaml"))
FIELDS = {"metadata.namespace": NAMESPACE, "metadata.name": "finetune-operator-7f9c-abcde"}


def environment(objects: list[Obj]) -> dict[str, str]:
    container = one(ours(objects), "Deployment")["spec"]["template"]["spec"]["containers"][0]

    def value(entry: dict[str, Any]) -> str:
        return str(entry["value"]) if "value" in entry else FIELDS[entry["valueFrom"]["fieldRef"]["fieldPath"]]

    return {entry["name"]: value(entry) for entry in container["env"]}


@pytest.mark.parametrize("values", VALUES, ids=lambda p: p.stem)
def test_every_variable_is_read_and_every_value_accepted(helm: Helm, values: Any) -> None:
    given = environment(helm.template("--values", str(values)))
    read: set[str] = set()

    class Spy(dict[str, str]):
        def get(self, key: str, default: Any = None) -> Any:
            read.add(key)
            return super().get(key, default)

    options = config.load([], Spy(given))
    assert set(given) <= read
    assert options.namespace == NAMESPACE
    assert options.identity == FIELDS["metadata.name"]
    assert options.listen_port == 8080


def test_what_the_values_say_is_what_the_operator_does(helm: Helm) -> None:
    objects = helm.template("--values", str(REPO / "tests/chart/values/everything.yaml"))
    options = config.load([], environment(objects))
    assert options.artifacts_uri == "pvc://runs/finetune"
    assert options.network_policies is False
    assert (options.progress_write_seconds, options.poll_seconds, options.resync_seconds) == (5, 1, 60)
    assert (options.lease_seconds, options.workers, options.max_writes) == (10, 4, 8)
    assert (options.log_level, options.cluster_domain, options.image_pull_policy) == ("debug", "corp.internal", "Never")


def test_a_gateway_and_its_hostnames_reach_the_operator(helm: Helm) -> None:
    options = config.load([], environment(helm.template("--values", str(REPO / "tests/chart/values/gateway.yaml"))))
    built = options.plan_config(b"k" * 32)
    assert built.serving_image == "registry.example:5000/ml/vllm@sha256:" + "0123456789abcdef" * 4
    assert (built.gateway, built.gateway_domain) == (f"{NAMESPACE}/models", "models.example.com")
    assert built.hostname_patterns == ("*.{namespace}.models.example.com", "chat.example.com")


def test_names_that_both_sides_spell_out(helm: Helm) -> None:
    objects = helm.template()
    role = one(objects, "Role")
    named = {n for rule in role["rules"] for n in rule.get("resourceNames", [])}
    assert named == {KEY_SECRET, LEASE_NAME}
    # The NetworkPolicy of each run lets the operator in by this label.
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == MANAGER
    assert [p["metadata"]["name"] for p in of_kind(objects, "NetworkPolicy")] == ["finetune-operator"]
