"""`helm install` and `helm uninstall` for real: what stays and what goes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.cluster import ApiServer
from tests.chart.helm import CHART, NAMESPACE, REPO, Helm, Refused

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]
EXAMPLE = REPO / "examples" / "gpu-lora.yaml"
CRD = "customresourcedefinitions/finetunejobs.finetune.dev"


@pytest.fixture
def empty(need: Callable[[str], Path]) -> Iterator[ApiServer]:
    """A server of its own, without the CRD."""
    for binary in ("etcd", "kube-apiserver", "kubectl"):
        need(binary)
    with ApiServer() as api:
        yield api


def helm_in(helm: Helm, api: ApiServer, *args: str) -> str:
    return helm.run(*args, "--kubeconfig", str(api.kubeconfig), "--namespace", NAMESPACE)


def names(api: ApiServer, *what: str) -> set[str]:
    return set(api.kubectl("get", *what, "-o", "name", "--ignore-not-found").split())


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def apply_example(api: ApiServer) -> bool:
    """False while the new kind is not served yet."""
    try:
        api.kubectl("apply", "-f", str(EXAMPLE))
    except subprocess.CalledProcessError:
        return False
    return True


def test_uninstall_keeps_jobs_and_an_installation_takes_them_up_again(helm: Helm, empty: ApiServer) -> None:
    said = helm_in(helm, empty, "install", "finetune-operator", str(CHART), "--create-namespace")
    assert "artifacts.uri is not set" in said
    assert "There is no Gateway" in said
    until(lambda: apply_example(empty), "the kind is not served")
    assert names(empty, "deployments", "-A") == {"deployment.apps/finetune-operator"}

    helm_in(helm, empty, "uninstall", "finetune-operator")
    assert names(empty, "finetunejobs") == {"finetunejob.finetune.dev/support-bot"}
    kinds = "deployments,services,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets"
    assert names(empty, kinds, "-n", NAMESPACE) <= {"serviceaccount/default"}
    assert names(empty, "clusterroles,clusterrolebindings", "-l", "app.kubernetes.io/name=finetune-operator") == set()

    said = helm_in(helm, empty, "install", "finetune-operator", str(CHART), "--set", "artifacts.uri=s3://b/runs")
    assert "Runs are stored below s3://b/runs/<namespace>/." in said
    assert names(empty, "finetunejobs") == {"finetunejob.finetune.dev/support-bot"}


def test_without_keep_nothing_stays(helm: Helm, empty: ApiServer) -> None:
    said = helm_in(
        helm, empty, "install", "finetune-operator", str(CHART), "--create-namespace", "--set", "crds.keep=false"
    )
    assert "removes our CRDs and with them EVERY FineTuneJob, EVERY ModelDeployment" in said
    until(lambda: apply_example(empty), "the kind is not served")
    helm_in(helm, empty, "uninstall", "finetune-operator")
    until(lambda: not names(empty, CRD), "the CRD is still there")
    until(lambda: "finetunejobs" not in empty.kubectl("api-resources", "--api-group=finetune.dev"), "still served")


GATEWAY_API = CHART / "charts" / "gateway-api" / "crds"


@pytest.mark.nightly
def test_a_gateway_comes_with_its_kinds_and_goes_alone(helm: Helm, empty: ApiServer) -> None:
    settings = ["--set", "gateway.install=true,gateway.domain=models.example.com"]
    said = helm_in(helm, empty, "install", "finetune-operator", str(CHART), "--create-namespace", *settings)
    assert "http://<name>.<namespace>.models.example.com/v1/completions" in said
    kinds = "gateways,deployments,services"
    assert names(empty, kinds, "-n", NAMESPACE, "-l", "app.kubernetes.io/component=gateway") == {
        "gateway.gateway.networking.k8s.io/finetune",
        "deployment.apps/finetune-operator-gateway",
        "service/finetune-operator-gateway",
    }
    helm_in(helm, empty, "upgrade", "finetune-operator", str(CHART), *settings, "--set", "gateway.replicas=1")

    helm_in(helm, empty, "uninstall", "finetune-operator")
    until(
        lambda: not names(empty, f"{kinds},serviceaccounts", "-n", NAMESPACE) - {"serviceaccount/default"},
        "something of the release is still there",
    )
    assert (
        names(empty, "gatewayclasses,clusterroles,clusterrolebindings", "-l", "app.kubernetes.io/component=gateway")
        == set()
    )
    # Gateway API kinds are everybody's: removing them would remove every route of the cluster.
    assert "customresourcedefinition.apiextensions.k8s.io/httproutes.gateway.networking.k8s.io" in names(empty, "crds")


@pytest.mark.nightly
def test_a_release_without_a_gateway_is_told_how_to_get_one(helm: Helm, empty: ApiServer) -> None:
    helm_in(helm, empty, "install", "finetune-operator", str(CHART), "--create-namespace")
    upgrade = ("upgrade", "finetune-operator", str(CHART), "--set", "gateway.install=true")
    with pytest.raises(Refused, match="kubectl apply --server-side -f helm/finetune-operator/charts/gateway-api/crds/"):
        helm_in(helm, empty, *upgrade)
    empty.kubectl("apply", "--server-side", "-f", str(GATEWAY_API))
    empty.kubectl("wait", "--for=condition=Established", "-f", str(GATEWAY_API))
    helm_in(helm, empty, *upgrade)
    assert names(empty, "gateways", "-n", NAMESPACE)


@pytest.mark.nightly
def test_a_gateway_api_too_old_for_traefik_is_named(helm: Helm, empty: ApiServer) -> None:
    for kind in ("gatewayclasses", "gateways", "httproutes"):
        empty.kubectl("apply", "--server-side", "-f", str(GATEWAY_API / f"gateway.networking.k8s.io_{kind}.yaml"))
    helm_in(helm, empty, "install", "finetune-operator", str(CHART), "--create-namespace")
    with pytest.raises(Refused, match="too old for the Traefik of this chart: it has no v1 of tlsroutes"):
        helm_in(helm, empty, "upgrade", "finetune-operator", str(CHART), "--set", "gateway.install=true")
