"""What the chart renders, for several values files: names, images, environment, pod security, roles."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart.helm import CHART, NAMESPACE, REPO, Helm, Obj, Refused, of_kind, one, ours
from tests.chart.pss import violations

VALUES = sorted((REPO / "tests" / "chart" / "values").glob("*.yaml"))
DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.fixture(params=VALUES, ids=lambda p: p.stem)
def rendered(request: pytest.FixtureRequest, helm: Helm) -> list[Obj]:
    return helm.template("--values", str(request.param))


@pytest.fixture
def operators(rendered: list[Obj]) -> list[Obj]:
    return ours(rendered)


def pod_specs(objects: list[Obj]) -> Iterator[tuple[str, Obj]]:
    for o in objects:
        if o["kind"] in ("Deployment", "Job", "DaemonSet", "StatefulSet"):
            yield o["metadata"]["name"], o["spec"]["template"]["spec"]
        elif o["kind"] == "Pod":
            yield o["metadata"]["name"], o["spec"]


def roles(objects: list[Obj]) -> Iterator[tuple[str, str, Obj]]:
    for o in objects:
        if o["kind"] in ("Role", "ClusterRole"):
            for rule in o["rules"]:
                yield o["kind"], o["metadata"]["name"], rule


def env(objects: list[Obj]) -> dict[str, Any]:
    container = one(ours(objects), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container["env"]}


@pytest.mark.parametrize("values", VALUES, ids=lambda p: p.stem)
def test_lints_strictly(helm: Helm, values: Any) -> None:
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(CHART), "--values", str(values))


def test_every_pod_is_restricted(rendered: list[Obj]) -> None:
    specs = dict(pod_specs(rendered))
    assert specs
    assert {name: violations(spec) for name, spec in specs.items()} == {name: [] for name in specs}


def test_root_file_systems_are_read_only(rendered: list[Obj]) -> None:
    for _, spec in pod_specs(rendered):
        assert all(c["securityContext"]["readOnlyRootFilesystem"] is True for c in spec["containers"])


def test_no_wildcard_in_any_role(rendered: list[Obj]) -> None:
    for _, name, rule in roles(rendered):
        for field, entries in rule.items():
            assert not any("*" in entry for entry in entries), f"{name}: {field}: {entries}"


def test_secrets_are_never_read_but_the_key(operators: list[Obj]) -> None:
    reads = {"get", "list", "watch", "update", "patch"}
    for kind, name, rule in roles(operators):
        if "secrets" in rule["resources"] and reads & set(rule["verbs"]):
            assert kind == "Role", f"{name} reads Secrets cluster-wide"
            assert rule["resourceNames"] == ["finetune-operator-key"]
            assert rule["verbs"] == ["get"]


def test_nobody_may_write_what_belongs_to_users(operators: list[Obj]) -> None:
    operator = next(o for o in of_kind(operators, "ClusterRole") if o["metadata"]["name"].endswith("operator"))
    verbs = {r: set(rule["verbs"]) for rule in operator["rules"] for r in rule["resources"]}
    assert verbs["finetunejobs"] == verbs["modeldeployments"] == {"get", "list", "watch"}
    assert "modeldeployments/scale" not in verbs
    assert verbs["nodes"] == {"get", "list", "watch"}
    assert "escalate" not in {v for vs in verbs.values() for v in vs}
    assert not {"roles", "clusterroles", "serviceaccounts", "pods/exec", "namespaces"} & set(verbs)


def test_selectors_match_the_pods(operators: list[Obj]) -> None:
    labels = one(operators, "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [one(operators, "Service")["spec"]["selector"]]
    selectors += [one(operators, k)["spec"]["selector"]["matchLabels"] for k in ("Deployment", "PodDisruptionBudget")]
    selectors += [p["spec"]["podSelector"]["matchLabels"] for p in of_kind(operators, "NetworkPolicy")]
    for selector in selectors:
        assert selector.items() <= labels.items()


def test_bindings_name_what_is_there(operators: list[Obj]) -> None:
    account = one(operators, "ServiceAccount")["metadata"]["name"]
    assert one(operators, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == account
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        binding = one(operators, kind)
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]
        names = [o["metadata"]["name"] for o in of_kind(operators, binding["roleRef"]["kind"])]
        assert binding["roleRef"]["name"] in names


def test_only_the_operator_gets_a_token(operators: list[Obj]) -> None:
    assert one(operators, "ServiceAccount")["automountServiceAccountToken"] is False
    assert one(operators, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is True


def test_defaults(helm: Helm) -> None:
    objects = helm.template()
    deployment = one(objects, "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["replicas"] == 2
    assert [c["topologyKey"] for c in spec["topologySpreadConstraints"]] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    assert not of_kind(objects, "ServiceMonitor")
    assert env(objects)["FINETUNE_ARTIFACTS_URI"] == env(objects)["FINETUNE_GATEWAY"] == ""
    assert re.fullmatch(r"docker\.io/vllm/vllm-openai:v\d+\.\d+\.\d+", env(objects)["FINETUNE_SERVING_IMAGE"])


def test_no_serving_image_is_none(helm: Helm) -> None:
    assert env(helm.template("--set", "servingImage.repository="))["FINETUNE_SERVING_IMAGE"] == ""


def test_images_and_store_reach_the_operator(helm: Helm) -> None:
    objects = helm.template("--values", str(CHART.parents[1] / "tests/chart/values/store.yaml"))
    spec = one(objects, "Deployment")["spec"]["template"]["spec"]
    variables = env(objects)
    assert spec["containers"][0]["image"] == "registry.example:5000/ml/finetune-operator:v9"
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert variables["FINETUNE_SMALL_IMAGE"] == "registry.example:5000/ml/finetune-operator:v9"
    assert variables["FINETUNE_TRAINER_IMAGE"] == f"registry.example:5000/ml/finetune-trainer@{DIGEST}"
    assert variables["FINETUNE_ARTIFACTS_URI"] == "s3://artifacts/runs"
    assert variables["FINETUNE_ARTIFACTS_SECRET"] == "finetune-artifacts"


def test_every_value_has_its_effect(helm: Helm) -> None:
    objects = helm.template("--values", str(CHART.parents[1] / "tests/chart/values/everything.yaml"))
    deployment = one(objects, "Deployment")
    template = deployment["spec"]["template"]
    spec, variables = template["spec"], env(objects)
    assert deployment["spec"]["replicas"] == 3
    assert spec["containers"][0]["image"] == f"op@{DIGEST}"
    assert spec["containers"][0]["imagePullPolicy"] == variables["FINETUNE_IMAGE_PULL_POLICY"] == "Never"
    assert variables["FINETUNE_NETWORK_POLICIES"] == "false"
    assert variables["FINETUNE_CLUSTER_DOMAIN"] == "corp.internal"
    assert variables["FINETUNE_LOG_LEVEL"] == "debug"
    assert [variables[f"FINETUNE_{n}"] for n in ("PROGRESS_WRITE_SECONDS", "POLL_SECONDS", "RESYNC_SECONDS")] == [
        "5",
        "1",
        "60",
    ]
    assert [variables[f"FINETUNE_{n}"] for n in ("LEASE_SECONDS", "WORKERS", "MAX_WRITES")] == ["10", "4", "8"]
    assert spec["priorityClassName"] == "system-cluster-critical"
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert spec["tolerations"] == [{"key": "control", "operator": "Exists"}]
    assert [c["topologyKey"] for c in spec["topologySpreadConstraints"]] == ["rack"]
    assert "nodeAffinity" in spec["affinity"]
    assert template["metadata"]["labels"]["example.com/tier"] == "control"
    assert template["metadata"]["annotations"]["example.com/team"] == "ml"
    assert spec["serviceAccountName"] == "tuner"
    assert not of_kind(objects, "NetworkPolicy")
    assert one(objects, "ServiceMonitor")["spec"]["endpoints"][0]["interval"] == "15s"


CRDS = sorted((REPO / "crds").glob("*.yaml"))


@pytest.mark.parametrize(("args", "kept"), [((), "keep"), (("--set", "crds.keep=false"), None)])
def test_the_crds_are_ours_and_kept_as_asked(helm: Helm, args: tuple[str, ...], kept: str | None) -> None:
    crds = {o["metadata"]["name"]: o for o in of_kind(helm.template(*args), "CustomResourceDefinition")}
    for path in CRDS:
        crd = crds.pop(f"{path.stem}.finetune.dev")
        assert crd["metadata"].pop("annotations", {}).get("helm.sh/resource-policy") == kept
        assert crd == yaml.safe_load(path.read_text())
    assert not crds


def test_the_crds_can_be_left_out(helm: Helm) -> None:
    assert not of_kind(helm.template("--set", "crds.enabled=false"), "CustomResourceDefinition")


def test_the_charts_copies_of_the_crds_have_no_diff() -> None:
    copies = {p.name: p.read_text() for p in (CHART / "files" / "crds").iterdir()}
    assert copies == {p.name: p.read_text() for p in CRDS}, "run `make generate`"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
        ("replica=2", "additional properties 'replica' not allowed"),
        ("image.name=x", "additional properties 'name' not allowed"),
        ("logLevel=loud", "at '/logLevel': value must be one of 'debug', 'info', 'warning', 'error'"),
        ("image.pullPolicy=Sometimes", "value must be one of 'IfNotPresent', 'Always', 'Never'"),
        ("crds.keep=yes please", "at '/crds/keep': got string, want boolean"),
        ("artifacts.uri=https://bucket", 'artifacts.uri is "https://bucket": expected s3://bucket/prefix'),
        ("artifacts.secretName=x", "artifacts.uri is empty: set artifacts.uri to the store that this Secret opens"),
        ("trainerImage.digest=abc", 'trainerImage.digest is "abc": expected sha256: and 64 hex digits'),
        ("gateway.image.digest=abc", 'gateway.image.digest is "abc": expected sha256: and 64 hex digits'),
        ("gateway.listenerPort=80", "at '/gateway/listenerPort': minimum: got 80, want 1,024"),
        ("gateway.listenerPort=8080", "at '/gateway/listenerPort': 'not' failed"),
        ("gateway.requestTimeout=long", "at '/gateway/requestTimeout': 'long' does not match pattern"),
        (
            "gateway.domain=models.example.com",
            "there is no Gateway: name yours (gateway.name) or set gateway.install=true",
        ),
        ("gateway.service.type=Ingress", "value must be one of 'LoadBalancer', 'NodePort', 'ClusterIP'"),
        (
            "policy.hostnames={chat-*.example.com}",
            "at '/policy/hostnames/0': 'chat-*.example.com' does not match pattern",
        ),
        ("policy.hostnames={chat.Example.com}", "at '/policy/hostnames/0': 'chat.Example.com' does not match pattern"),
    ],
)
def test_bad_values_are_refused_in_words(helm: Helm, setting: str, words: str) -> None:
    with pytest.raises(Refused) as refusal:
        helm.template("--set", setting)
    assert words in str(refusal.value)


def test_every_object_of_the_schema_is_strict_and_every_value_described() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def walk(node: Obj, path: str) -> None:
        if "properties" in node:
            assert node.get("additionalProperties") is False, path
            for key, child in node["properties"].items():
                leaf = "properties" not in child
                assert not leaf or "description" in child or key == "claims", f"{path}.{key} has no description"
                walk(child, f"{path}.{key}")

    walk(schema, "values")


def test_schema_and_values_name_the_same_keys() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def keys(node: Obj, path: str = "") -> set[str]:
        found = set()
        for key, child in node.get("properties", {}).items():
            found |= keys(child, f"{path}/{key}") if "properties" in child else {f"{path}/{key}"}
        return found

    def leaves(node: Any, path: str, known: set[str]) -> set[str]:
        if path in known or not isinstance(node, dict):
            return {path}
        return {leaf for key, child in node.items() for leaf in leaves(child, f"{path}/{key}", known)}

    in_schema = keys(schema)
    given = leaves(values, "", in_schema)
    assert given <= in_schema
    assert in_schema - given == {"/global", "/gateway-api", "/resources/claims", "/gateway/resources/claims"}


def test_another_release_name_gets_its_own_names(helm: Helm) -> None:
    names = {o["metadata"]["name"] for o in helm.template(release="ml") if o["kind"] != "CustomResourceDefinition"}
    assert all(name.startswith("ml-finetune-operator") for name in names)
