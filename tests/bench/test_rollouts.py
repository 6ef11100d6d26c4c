"""What the stand-in for a Gateway says, and how a decision's way to the route is timed."""

from __future__ import annotations

from typing import Any

from bench import stub
from bench.audit import Call
from bench.lab import OPERATOR_USER
from bench.rollouts import accepted, decisions
from finetune_operator.core.serving.builders.route import accepted as taken
from finetune_operator.kube.engine_metrics import parse

PARENT = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "team-00", "name": "bench"}


def test_each_version_of_a_route_is_accepted_once() -> None:
    route: dict[str, Any] = {
        "metadata": {"generation": 3, "namespace": "team-00", "name": "bot"},
        "spec": {"parentRefs": [PARENT]},
    }
    assert not taken(route, [PARENT]).ok
    body = accepted(route)
    assert body is not None
    assert taken(route | body, [PARENT]).ok
    assert accepted(route | body) is None
    route["metadata"]["generation"] = 4
    assert accepted(route | body) is not None


def call(verb: str, resource: str, at: float, user: str = OPERATOR_USER) -> Call:
    return Call(user, verb, resource, "team-00", "bot", 200, at, at)


def test_a_decision_is_timed_from_its_status_write_to_the_routes_patch() -> None:
    calls = [
        call("update", "modeldeployments/status", 1.0),
        call("update", "modeldeployments/status", 2.0),
        call("patch", "httproutes", 2.25),
        call("patch", "httproutes", 9.0),
        call("patch", "httproutes", 9.5, user="somebody"),
    ]
    assert decisions(calls) == [0.25]


def test_fake_engines_speak_as_vllm_does() -> None:
    sample = parse(stub.metrics(2.0).encode())
    assert (sample.served, sample.running, sample.waiting) == (20, 1, 0)
