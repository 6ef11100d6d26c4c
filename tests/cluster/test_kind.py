"""The kind way, as far as it can be driven without an engine: a `docker` that answers from a script."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from e2e.cluster import NotUp, kind

NETWORK = [
    {"IPAM": {"Config": [{"Gateway": "fc00:f853:ccd::1"}, {"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]}}
]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Returns a function that sets what `docker` prints and how it exits; calls are kept in `calls`."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def answer(output: str, code: int = 0) -> Path:
        (tmp_path / "output").write_text(output)
        script = tmp_path / "docker"
        script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncat {tmp_path}/output\nexit {code}\n')
        script.chmod(0o755)
        return tmp_path / "calls"

    return answer


def test_a_client_without_an_engine_is_no_engine(docker) -> None:
    docker("Cannot connect to the Docker daemon", 1)
    assert not kind.engine_answers()
    docker("28.2.2")
    assert kind.engine_answers()


def test_no_docker_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not kind.engine_answers()


def test_the_store_listens_on_the_ipv4_gateway_of_kinds_network(docker) -> None:
    docker(json.dumps(NETWORK))
    assert kind.gateway() == "172.18.0.1"


def test_a_network_without_ipv4_is_said(docker) -> None:
    docker(json.dumps([{"IPAM": {"Config": [{"Gateway": "fc00::1"}]}}]))
    with pytest.raises(NotUp, match="no IPv4 gateway"):
        kind.gateway()


def test_docker_failures_carry_its_words(docker, tmp_path: Path) -> None:
    script = tmp_path / "docker"
    script.write_text("#!/bin/sh\necho 'No such network: kind' >&2\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(NotUp, match="No such network: kind"):
        kind.gateway()


def test_isolation_kills_the_kubelet_and_keeps_it_down(docker) -> None:
    calls = docker("")
    kind.KindCluster().isolate("finetune-worker")
    assert calls.read_text().splitlines() == [
        "exec finetune-worker systemctl kill --signal=SIGKILL kubelet",
        "exec finetune-worker systemctl stop kubelet",
    ]


def test_two_workers_and_the_same_grace_period_as_the_bare_way() -> None:
    config = kind.config()
    roles = [node["role"] for node in config["nodes"]]  # type: ignore[attr-defined]
    assert roles == ["control-plane", "worker", "worker"]
    patch = yaml.safe_load(config["nodes"][0]["kubeadmConfigPatches"][0])  # type: ignore[index]
    assert {"name": "node-monitor-grace-period", "value": "25s"} in patch["controllerManager"]["extraArgs"]
