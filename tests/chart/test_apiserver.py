"""The rendered chart against a real API server: every object is accepted, and the roles allow no more than they say."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
import yaml

from e2e.cluster import ApiServer
from tests.chart.helm import NAMESPACE, REPO, Helm, of_kind

pytestmark = pytest.mark.apiserver
ACCOUNT = f"--as=system:serviceaccount:{NAMESPACE}:finetune-operator"


@pytest.fixture(scope="module")
def installed(apiserver: ApiServer, helm: Helm) -> Iterator[ApiServer]:
    """The chart's objects for real, without the CRD that the session already has."""
    apiserver.kubectl("create", "namespace", NAMESPACE)
    text = helm.text("--set", "crds.enabled=false")
    apiserver.kubectl("apply", "--server-side", "--namespace", NAMESPACE, "-f", "-", input=text)
    yield apiserver
    apiserver.kubectl("delete", "--namespace", NAMESPACE, "--wait=false", "-f", "-", input=text)
    apiserver.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.mark.parametrize("values", sorted((REPO / "tests/chart/values").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_object_is_accepted(installed: ApiServer, helm: Helm, values: str) -> None:
    objects = helm.template("--values", str(values))
    ours = [o for o in objects if o["kind"] != "ServiceMonitor"]
    answer = installed.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", input=yaml.safe_dump_all(ours)
    )
    assert answer.count("(server dry run)") == len(ours)
    assert of_kind(ours, "CustomResourceDefinition")


def may(api: ApiServer, verb: str, resource: str, where: str) -> bool:
    try:
        answer = api.kubectl("auth", "can-i", verb, resource, ACCOUNT, *where.split())
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
