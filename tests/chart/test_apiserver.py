"""The rendered chart against a real API server: every object is accepted, and the roles allow no more than they say."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
import yaml

from e2e.cluster import ApiServer
from tests.chart.helm import CHART, NAMESPACE, REPO, Helm, of_kind

pytestmark = pytest.mark.apiserver
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:finetune-operator"
TRAEFIK = f"{ACCOUNT}-gateway"
GATEWAY_API = CHART / "charts" / "gateway-api" / "crds"


@pytest.fixture(scope="module")
def installed(apiserver: ApiServer, helm: Helm) -> Iterator[ApiServer]:
    """The chart's objects for real, a Gateway among them, without our CRDs, which the session already has."""
    for name in (NAMESPACE, "team-a", "team-b", "edge"):
        apiserver.ensure_namespace(name)
    apiserver.kubectl("apply", "--server-side", "-f", str(GATEWAY_API))
    apiserver.kubectl("wait", "--for=condition=Established", "-f", str(GATEWAY_API))
    text = helm.text("--set", "crds.enabled=false,gateway.install=true")
    apiserver.kubectl("apply", "--server-side", "--namespace", NAMESPACE, "-f", "-", input=text)
    yield apiserver
    apiserver.kubectl("delete", "--namespace", NAMESPACE, "--wait=false", "-f", "-", input=text)


@pytest.mark.parametrize("values", sorted((REPO / "tests/chart/values").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_object_is_accepted(installed: ApiServer, helm: Helm, values: str) -> None:
    objects = helm.template("--values", str(values))
    ours = [o for o in objects if o["kind"] != "ServiceMonitor"]
    answer = installed.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", input=yaml.safe_dump_all(ours)
    )
    assert answer.count("(server dry run)") == len(ours)
    assert of_kind(ours, "CustomResourceDefinition")


def may(api: ApiServer, verb: str, resource: str, where: str, account: str = ACCOUNT) -> bool:
    try:
        answer = api.kubectl("auth", "can-i", verb, resource, f"--as={account}", *where.split())
    except subprocess.CalledProcessError as error:
        # kubectl exits 1 for "no" and for every error alike.
        if not error.stdout.startswith("no"):
            raise
        answer = error.stdout
    return answer.strip() == "yes"


@pytest.mark.parametrize(
    ("verb", "resource", "where"),
    [
        ("list", "finetunejobs.finetune.dev", "--all-namespaces"),
        ("update", "finetunejobs.finetune.dev", "-nteam --subresource=status"),
        ("list", "modeldeployments.finetune.dev", "--all-namespaces"),
        ("patch", "modeldeployments.finetune.dev", "-nteam --subresource=status"),
        ("create", "deployments.apps", "-nteam"),
        ("patch", "deployments.apps", "-nteam"),
        ("delete", "deployments.apps", "-nteam"),
        ("patch", "httproutes.gateway.networking.k8s.io", "-nteam"),
        ("delete", "services", "-nteam"),
        ("create", "jobs.batch", "-nteam"),
        ("delete", "jobs.batch", "-nteam"),
        ("create", "pods", "-nteam"),
        ("patch", "services", "-nteam"),
        ("create", "networkpolicies.networking.k8s.io", "-nteam"),
        ("create", "secrets", "-nteam"),
        ("delete", "secrets", "-nteam"),
        ("watch", "nodes", "--all-namespaces"),
        ("create", "events", "-nteam"),
        ("update", "leases.coordination.k8s.io/finetune-operator", f"-n{NAMESPACE}"),
        ("get", "secrets/finetune-operator-key", f"-n{NAMESPACE}"),
    ],
)
def test_the_operator_may(installed: ApiServer, verb: str, resource: str, where: str) -> None:
    assert may(installed, verb, resource, where)


@pytest.mark.parametrize(
    ("verb", "resource", "where"),
    [
        ("get", "secrets", "-nteam"),
        ("list", "secrets", "--all-namespaces"),
        ("get", "secrets/another", f"-n{NAMESPACE}"),
        ("list", "secrets", f"-n{NAMESPACE}"),
        ("update", "finetunejobs.finetune.dev", "-nteam"),
        ("patch", "finetunejobs.finetune.dev", "-nteam"),
        ("delete", "finetunejobs.finetune.dev", "-nteam"),
        ("patch", "modeldeployments.finetune.dev", "-nteam"),
        ("delete", "modeldeployments.finetune.dev", "-nteam"),
        ("update", "modeldeployments.finetune.dev", "-nteam --subresource=scale"),
        ("patch", "gateways.gateway.networking.k8s.io", "-nteam"),
        ("update", "httproutes.gateway.networking.k8s.io", "-nteam --subresource=status"),
        ("update", "pods", "-nteam"),
        ("create", "pods", "-nteam --subresource=exec"),
        ("update", "nodes", "--all-namespaces"),
        ("get", "configmaps", "-nteam"),
        ("update", "leases.coordination.k8s.io/another", f"-n{NAMESPACE}"),
        ("create", "leases.coordination.k8s.io", "-nteam"),
        ("create", "clusterroles.rbac.authorization.k8s.io", "--all-namespaces"),
    ],
)
def test_the_operator_may_not(installed: ApiServer, verb: str, resource: str, where: str) -> None:
    assert not may(installed, verb, resource, where)


@pytest.mark.parametrize(
    ("verb", "resource", "where", "answer"),
    [
        ("watch", "httproutes.gateway.networking.k8s.io", "--all-namespaces", True),
        ("watch", "endpointslices.discovery.k8s.io", "--all-namespaces", True),
        ("update", "httproutes.gateway.networking.k8s.io", "-nteam --subresource=status", True),
        ("update", "gatewayclasses.gateway.networking.k8s.io", "--subresource=status", True),
        ("update", "httproutes.gateway.networking.k8s.io", "-nteam", False),
        ("create", "secrets", "-nteam", False),
        ("get", "pods", "-nteam", False),
        ("get", "modeldeployments.finetune.dev", "-nteam", False),
    ],
)
def test_what_traefik_may(installed: ApiServer, verb: str, resource: str, where: str, answer: bool) -> None:
    assert may(installed, verb, resource, where, TRAEFIK) is answer


EVERYBODY = [
    ("get", "modeldeployments.finetune.dev", "finetune-operator-view", True),
    ("create", "modeldeployments.finetune.dev", "finetune-operator-view", False),
    ("create", "modeldeployments.finetune.dev", "finetune-operator-edit", True),
    ("patch", "modeldeployments.finetune.dev/scale", "finetune-operator-edit", True),
    ("update", "modeldeployments.finetune.dev/status", "finetune-operator-edit", False),
]


@pytest.mark.parametrize(("verb", "resource", "role", "answer"), EVERYBODY)
def test_what_users_may(installed: ApiServer, verb: str, resource: str, role: str, answer: bool) -> None:
    """By the aggregated roles themselves: the controller that folds them into view and edit does not run here."""
    user = f"somebody-with-{role}"
    if not installed.kubectl("get", "clusterrolebinding", user, "--ignore-not-found"):
        installed.kubectl("create", "clusterrolebinding", user, f"--clusterrole={role}", f"--user={user}")
    name, _, sub = resource.partition("/")
    assert may(installed, verb, name, f"-nteam --subresource={sub}", user) is answer
