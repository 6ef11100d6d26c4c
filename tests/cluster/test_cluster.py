"""The cluster as tests see it: what it says when it is not there, and which container a fault hits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import Cluster, NotUp, addons, chart, check
from e2e.cluster.bare import BareCluster
from e2e.cluster.cluster import write_record
from e2e.cluster.kind import KindCluster

STORE = addons.S3("http://100.66.0.1:7070", "key", "word")


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("FINETUNE_CACHE", str(tmp_path / "cache"))


class Recorded(BareCluster):
    """A cluster whose kubectl answers from a table."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answered, self.calls = answers, []
        self.calls: list[tuple[str, ...]]

    def kubectl(self, *args: str, input: str | None = None) -> str:
        self.calls.append(args)
        return json.dumps(self.answered.get(args[1] if args[0] == "get" else args[0], {}))


def test_without_a_cluster_the_error_says_how_to_get_one() -> None:
    with pytest.raises(NotUp, match="run `make cluster-up`"):
        Cluster.current()


def test_a_recorded_cluster_that_does_not_answer_is_said() -> None:
    write_record(way="bare")
    with pytest.raises(NotUp, match="does not answer"):
        Cluster.current()


def test_records_are_added_to() -> None:
    write_record(way="bare")
    write_record(images={"operator": "localhost/finetune-operator:1"})
    assert BareCluster().images == {"operator": "localhost/finetune-operator:1"}


def pod(*containers: tuple[str, str]) -> dict[str, Any]:
    statuses = [
        {"name": name, "state": {state: {}}, "containerID": f"containerd://id-of-{name}"} for name, state in containers
    ]
    return {"spec": {"nodeName": "node-2"}, "status": {"containerStatuses": statuses}}


def test_the_first_running_container_is_meant_unless_named() -> None:
    cluster = Recorded({"pod": pod(("init", "terminated"), ("main", "running"), ("side", "running"))})
    assert cluster.container_id("ns", "p") == ("node-2", "id-of-main")
    assert cluster.container_id("ns", "p", "side") == ("node-2", "id-of-side")
    with pytest.raises(LookupError, match="pod ns/p has no running container init"):
        cluster.container_id("ns", "p", "init")


def test_untaint_of_an_untainted_node_is_fine() -> None:
    cluster = Recorded({"node": {"spec": {"taints": [{"key": "spot", "effect": "NoSchedule"}]}}})
    cluster.untaint("node-1", "other")
    assert not [call for call in cluster.calls if call[0] == "taint"]
    cluster.untaint("node-1", "spot")
    assert ("taint", "node", "node-1", "spot-") in cluster.calls


@pytest.mark.parametrize(("count", "value"), [(8, "8"), (0, None)])
def test_fake_gpus_are_written_as_capacity_and_allocatable(count: int, value: str | None) -> None:
    cluster = Recorded({})
    cluster.fake_gpus("node-1", count)
    patch = json.loads(cluster.calls[0][-1])["status"]
    assert patch == {"capacity": {"nvidia.com/gpu": value}, "allocatable": {"nvidia.com/gpu": value}}


def test_credentials_are_made_once_and_kept_private() -> None:
    addons.make_credentials()
    first = addons.s3()
    addons.make_credentials()
    assert addons.s3() == first
    assert len(first.secret_key) >= 24
    assert addons._credentials_file().stat().st_mode & 0o777 == 0o600


def test_the_stores_secret_has_the_keys_that_pods_read() -> None:
    secret = STORE.secret("artifacts", "team-a")
    assert secret["metadata"] == {"name": "artifacts", "namespace": "team-a"}
    assert set(secret["stringData"]) == {  # type: ignore[call-overload]
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
    }


IMAGES = {
    "operator": "localhost/finetune-operator:a1",
    "trainer": "localhost/finetune-trainer:b2",
    "vllm": "localhost/finetune-vllm:c3",
    "traefik": "localhost/finetune-traefik:v3",
}


def test_chart_values_name_the_images_that_the_nodes_hold() -> None:
    write_record(way="bare", images=IMAGES)
    addons.make_credentials()
    values = chart.values(BareCluster())
    assert values["image"] == {"repository": "localhost/finetune-operator", "tag": "a1", "pullPolicy": "Never"}
    assert values["trainerImage"] == {"repository": "localhost/finetune-trainer", "tag": "b2"}
    assert values["servingImage"] == {"repository": "localhost/finetune-vllm", "tag": "c3"}
    assert values["artifacts"] == {"uri": "s3://artifacts/runs", "secretName": chart.SECRET}


@pytest.mark.parametrize(("cluster", "kind_of_service"), [(BareCluster(), "ClusterIP"), (KindCluster(), "NodePort")])
def test_the_gateway_is_reachable_from_this_host(cluster: Cluster, kind_of_service: str) -> None:
    write_record(images=IMAGES)
    addons.make_credentials()
    gateway = chart.values(cluster)["gateway"]
    assert gateway["install"] is True  # type: ignore[index]
    assert gateway["image"] == {"repository": "localhost/finetune-traefik", "tag": "v3"}  # type: ignore[index]
    assert gateway["service"] == {"type": kind_of_service}  # type: ignore[index]


def test_the_gateways_address_is_that_of_its_service() -> None:
    spec = {"clusterIP": "100.65.7.7", "ports": [{"port": 80, "nodePort": 30080}]}
    cluster = Recorded({"service": {"spec": spec}})
    assert cluster.gateway == "100.65.7.7:80"
    assert cluster.calls[0][:3] == ("get", "service", "finetune-operator-gateway")


def test_the_acceptance_check_asks_for_two_nodes_and_no_privileges() -> None:
    objects = {item["metadata"]["name"] + item["kind"]: item for item in check.manifests("image:1", STORE.endpoint)}
    spec = objects["checkJob"]["spec"]["template"]["spec"]
    apart = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart[0]["topologyKey"] == "kubernetes.io/hostname"
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert objects["checkService"]["spec"]["clusterIP"] == "None"
    assert "clusterIP" not in objects["echoService"]["spec"]
