"""The running cluster itself, where one is up: the promises of cluster.py, briefly."""

from __future__ import annotations

import http.client
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster import Cluster, NotUp, chart, check
from e2e.cluster.process import wait_for

pytestmark = pytest.mark.cluster
NAMESPACE = "finetune-cluster-test"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        found = Cluster.current()
    except NotUp as error:
        pytest.skip(str(error))
    found.give_store_access(NAMESPACE)
    yield found
    found.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_two_nodes_are_ready(cluster: Cluster) -> None:
    assert len(cluster.nodes) == 2
    assert all(cluster.node_ready(node) for node in cluster.nodes)


def test_gang_names_services_and_store_work_between_nodes(cluster: Cluster) -> None:
    words = check.run(cluster)
    assert "exchanged 1 MiB with echo.finetune-check.svc.cluster.local" in words
    assert "the store answers" in words


def test_the_gateway_answers_from_this_host(cluster: Cluster) -> None:
    """A host name that no route claims: the answer is the proxy's own."""
    host, _, port = cluster.gateway.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", "/v1/models", headers={"Host": f"nobody.nowhere.{chart.DOMAIN}"})
    assert connection.getresponse().status == 404
    connection.close()


def test_a_killed_container_ends_with_137(cluster: Cluster) -> None:
    container = {
        "name": "main",
        "image": cluster.images["operator"],
        "imagePullPolicy": "Never",
        "command": ["python", "-c", "import threading; threading.Event().wait()"],
    }
    spec: dict[str, Any] = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    metadata = {"name": "victim", "namespace": NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def phase() -> str:
        return str(cluster.get("pod", "victim", "-n", NAMESPACE)["status"]["phase"])

    wait_for("the pod", lambda: phase() == "Running", 60, phase)
    cluster.kill_container(NAMESPACE, "victim", signal.SIGKILL)
    wait_for("the pod's end", lambda: phase() == "Failed", 60, phase)
    status = cluster.get("pod", "victim", "-n", NAMESPACE)["status"]["containerStatuses"][0]
    assert status["state"]["terminated"]["exitCode"] == 137


def test_offered_gpus_stay_until_taken_back(cluster: Cluster) -> None:
    node = cluster.nodes[1]
    before = cluster.get("node", node)["status"]["allocatable"].get("nvidia.com/gpu", "0")
    cluster.fake_gpus(node, 3)
    assert cluster.get("node", node)["status"]["allocatable"]["nvidia.com/gpu"] == "3"
    cluster.fake_gpus(node, int(before))
    assert cluster.get("node", node)["status"]["allocatable"].get("nvidia.com/gpu", "0") == before
