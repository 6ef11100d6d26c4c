"""The Gateway that the chart can bring: Traefik restricted, without rights to spare, and on the port of its listener."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.chart.helm import CHART, NAMESPACE, REPO, Helm, Obj, is_gateway, of_kind, one, ours

NAME = "finetune-operator-gateway"
INSTALL = ("--set", "gateway.install=true")
EVERYTHING = ("--values", str(REPO / "tests/chart/values/gateway.yaml"))
CRDS = sorted((CHART / "charts" / "gateway-api" / "crds").glob("*.yaml"))
WATCHED = {
    "": {"namespaces", "services", "secrets", "configmaps"},
    "discovery.k8s.io": {"endpointslices"},
    "gateway.networking.k8s.io": {
        "gatewayclasses",
        "gateways",
        "httproutes",
        "grpcroutes",
        "tlsroutes",
        "referencegrants",
        "backendtlspolicies",
    },
}
"""What Traefik 3.7 starts informers for (pkg/provider/kubernetes/gateway/client.go, WatchAll); one that it may not list
keeps it from ever loading a route."""


def gateway(helm: Helm, *args: str) -> list[Obj]:
    return [o for o in helm.template(*args) if is_gateway(o)]


def traefik(objects: list[Obj]) -> Obj:
    container: Obj = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return container


def rules(objects: list[Obj]) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
        for role in of_kind(objects, "ClusterRole")
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.parametrize("args", [(), ("--set", "gateway.name=public,gateway.namespace=edge")], ids=["none", "own"])
def test_nothing_of_it_without_install(helm: Helm, args: tuple[str, ...]) -> None:
    objects = helm.template("--include-crds", *args)
    assert ours(objects) == objects
    assert not any("gateway.networking.k8s.io" in o["apiVersion"] for o in objects)
    assert {o["spec"]["group"] for o in of_kind(objects, "CustomResourceDefinition")} == {"finetune.dev"}


def test_traefik_may_watch_what_it_must_and_write_status_only(helm: Helm) -> None:
    given = rules(gateway(helm, *INSTALL))
    for group, resources in WATCHED.items():
        for resource in resources:
            assert given.pop((group, resource)) == {"list", "watch"}, resource
    assert all(resource.endswith("/status") and verbs == {"update"} for (_, resource), verbs in given.items())
    assert {resource.split("/")[0] for _, resource in given} < WATCHED["gateway.networking.k8s.io"]


def test_its_crds_are_those_it_watches_and_nothing_else_of_the_gateway_api() -> None:
    crds = [yaml.safe_load(path.read_text()) for path in CRDS]
    assert {crd["spec"]["names"]["plural"] for crd in crds} == WATCHED["gateway.networking.k8s.io"]
    version = yaml.safe_load((CHART / "charts/gateway-api/Chart.yaml").read_text())["version"]
    for crd in crds:
        assert crd["metadata"]["annotations"]["gateway.networking.k8s.io/bundle-version"] == f"v{version}"
        assert crd["metadata"]["annotations"]["gateway.networking.k8s.io/channel"] == "standard"
        served = {v["name"] for v in crd["spec"]["versions"] if v["served"]}
        assert ("v1beta1" if crd["spec"]["names"]["plural"] == "referencegrants" else "v1") in served
    parent = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert [d["version"] for d in parent["dependencies"]] == [version]


@pytest.mark.parametrize("args", [INSTALL, EVERYTHING], ids=["defaults", "everything"])
def test_the_listener_meets_the_entry_point(helm: Helm, args: tuple[str, ...]) -> None:
    objects = gateway(helm, *args)
    listener = one(objects, "Gateway")["spec"]["listeners"][0]
    assert f"--entrypoints.web.address=:{listener['port']}" in traefik(objects)["args"]
    ports = {p["name"]: p["containerPort"] for p in traefik(objects)["ports"]}
    assert ports == {"web": listener["port"], "http": 8080}
    assert one(objects, "Service")["spec"]["ports"][0]["targetPort"] == "web"
    assert one(objects, "Gateway")["spec"]["gatewayClassName"] == one(objects, "GatewayClass")["metadata"]["name"]
    assert one(objects, "GatewayClass")["spec"]["controllerName"] == "traefik.io/gateway-controller"


@pytest.mark.parametrize("args", [INSTALL, EVERYTHING], ids=["defaults", "everything"])
def test_the_operators_selectors_do_not_catch_it(helm: Helm, args: tuple[str, ...]) -> None:
    objects = helm.template(*args)
    theirs = one(gateway(helm, *args), "Deployment")["spec"]["template"]["metadata"]["labels"]
    own = one(ours(objects), "Deployment")["spec"]["template"]["metadata"]["labels"]
    for o in objects:
        spec = o.get("spec", {})
        for selector in (
            spec.get("selector", {}).get("matchLabels") if o["kind"] != "Service" else spec["selector"],
            spec.get("podSelector", {}).get("matchLabels"),
        ):
            if selector and o["kind"] != "Gateway":
                assert selector.items() <= (theirs if is_gateway(o) else own).items(), o["metadata"]["name"]
                assert not selector.items() <= (own if is_gateway(o) else theirs).items(), o["metadata"]["name"]


def test_defaults(helm: Helm) -> None:
    objects = gateway(helm, *INSTALL)
    deployment = one(objects, "Deployment")
    assert deployment["metadata"]["name"] == NAME
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert one(objects, "Gateway")["spec"]["listeners"][0]["allowedRoutes"]["namespaces"] == {"from": "All"}
    assert (one(objects, "Gateway")["metadata"]["name"], one(objects, "Gateway")["metadata"]["namespace"]) == (
        "finetune",
        NAMESPACE,
    )
    assert len(of_kind(objects, "ClusterRoleBinding")) == 2
    assert not of_kind(objects, "RoleBinding")
    assert one(objects, "NetworkPolicy")["spec"]["ingress"] == [
        {"ports": [{"port": "web", "protocol": "TCP"}, {"port": "http", "protocol": "TCP"}]}
    ]


def test_every_value_has_its_effect(helm: Helm) -> None:
    objects = gateway(helm, *EVERYTHING)
    deployment, container = one(objects, "Deployment"), traefik(objects)
    spec = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["replicas"] == 3
    assert container["image"] == "registry.example:5000/traefik:v9"
    assert container["resources"] == {"requests": {"cpu": 1, "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert spec["priorityClassName"] == "system-cluster-critical"
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert spec["tolerations"] == [{"key": "edge", "operator": "Exists"}]
    assert spec["terminationGracePeriodSeconds"] == 80
    assert {
        "--entrypoints.web.transport.respondingtimeouts.readtimeout=30m",
        "--entrypoints.web.transport.lifecycle.gracetimeout=60s",
        "--providers.kubernetesgateway.namespaces=finetune-system,team-a,team-b",
    } <= set(container["args"])
    service = one(objects, "Service")
    assert service["spec"]["type"] == "NodePort"
    assert service["spec"]["ports"] == [{"name": "web", "port": 8080, "targetPort": "web", "nodePort": 30080}]
    assert service["metadata"]["annotations"] == {"example.com/lb": "internal"}
    assert one(objects, "Gateway")["spec"]["listeners"][0]["allowedRoutes"]["namespaces"] == {
        "from": "Selector",
        "selector": {"matchLabels": {"example.com/models": "served"}},
    }


def test_watched_namespaces_are_all_it_may_see(helm: Helm) -> None:
    objects = gateway(helm, *EVERYTHING)
    (everywhere,) = of_kind(objects, "ClusterRoleBinding")
    assert everywhere["roleRef"]["name"] == NAME
    bindings = {b["metadata"]["namespace"]: b["roleRef"]["name"] for b in of_kind(objects, "RoleBinding")}
    assert bindings == dict.fromkeys((NAMESPACE, "team-a", "team-b"), f"{NAME}-routes")
    roles = {r["metadata"]["name"]: r for r in of_kind(objects, "ClusterRole")}
    seen = {resource for rule in roles[NAME]["rules"] for resource in rule["resources"]}
    assert seen == {"namespaces", "gatewayclasses", "gatewayclasses/status"}


def test_a_long_release_name_keeps_names_apart(helm: Helm) -> None:
    objects = helm.template(*INSTALL, release="a-release-with-a-name-as-long-as-helm-allows-it-x53")
    names = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects]
    assert len(names) == len(set(names))
    assert all(len(name) <= 63 for kind, _, name in names if not kind.startswith(("ClusterRole", "Custom")))


def test_the_subchart_holds_only_crds() -> None:
    folder: Path = CHART / "charts" / "gateway-api"
    assert {p.name for p in folder.iterdir()} == {"Chart.yaml", "crds"}
