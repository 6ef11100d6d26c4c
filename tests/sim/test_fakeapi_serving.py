"""The simulated controllers around Deployments, Services and HTTPRoutes: each rule that a rollout depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakeapi import World, install_crd
from fakeapi.controllers import Answer, Process, Program

from tests.crds import crd

GPUS = {"nvidia.com/gpu": "4"}
Obj = dict[str, Any]
REPO = Path(__file__).resolve().parents[2]
ROUTES = ("gateway.networking.k8s.io", "httproutes")
ENGINE = Program(start_seconds=1, seconds=None, init_seconds=5, ready_seconds=10, term_seconds=2, term_exit_code=0)


def world(program: Program = ENGINE, *, seed: int = 0) -> World:
    w = World({"n0": GPUS, "n1": GPUS}, seed=seed, programs=lambda pod: program)
    install_crd(w.server, crd("httproutes"))
    return w


def deploy(w: World, name: str = "d", replicas: int = 2, **spec: Any) -> Obj:
    labels = {"app": name}
    container = {"name": "main", "image": "e:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    template = {"initContainers": [{"name": "fetch", "image": "s:1"}], "containers": [container], **spec}
    body = {
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template},
        },
    }
    return w.api.create("apps", "deployments", "default", body)


def scale(w: World, replicas: int) -> None:
    found = w.get("apps", "deployments", "default", "d")
    w.api.put("apps", "deployments", {**found, "spec": {**found["spec"], "replicas": replicas}})


def status(w: World) -> Obj:
    return dict(w.get("apps", "deployments", "default", "d")["status"])


def ready(pod: Obj) -> bool:
    """Its Ready condition."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or [])


def all_ready(w: World) -> bool:
    return bool(w.pods()) and all(map(ready, w.pods()))


def test_pods_belong_to_a_replica_set_of_the_deployment() -> None:
    w = world()
    made = deploy(w)
    w.run_until(lambda: status(w).get("readyReplicas") == 2)
    (found,) = w.server.store.of_type("apps", "replicasets").values()
    assert found["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    for pod in w.pods():
        (ref,) = pod["metadata"]["ownerReferences"]
        assert (ref["kind"], ref["name"], ref["controller"]) == ("ReplicaSet", found["metadata"]["name"], True)
        assert pod["metadata"]["name"].startswith("d-" + pod["metadata"]["labels"]["pod-template-hash"])
    w.settle()
    generation = w.get("apps", "deployments", "default", "d")["metadata"]["generation"]
    assert status(w)["observedGeneration"] == generation
    assert [status(w)[k] for k in ("replicas", "updatedReplicas", "availableReplicas")] == [2, 2, 2]


def test_ready_comes_after_the_init_containers_and_the_probe() -> None:
    w = world()
    deploy(w, replicas=1)
    start = w.clock.now()
    w.advance(3)
    (pod,) = w.pods()
    assert pod["status"]["phase"] == "Pending"
    assert "running" in pod["status"]["initContainerStatuses"][0]["state"]
    w.advance(5)
    (pod,) = w.pods()
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    assert pod["status"]["phase"] == "Running"
    assert not ready(pod)
    w.run_until(lambda: all_ready(w))
    assert w.clock.now() - start == pytest.approx(16)


def test_failed_init_container_is_tried_again_and_says_why() -> None:
    w = world(replace(ENGINE, init_exit_code=74, init_message="no such bucket"))
    deploy(w, replicas=1)
    w.advance(40)
    (pod,) = w.pods()
    (fetch,) = pod["status"]["initContainerStatuses"]
    assert fetch["restartCount"] >= 2
    assert fetch["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert fetch["lastState"]["terminated"]["message"] == "no such bucket"
    assert pod["status"]["phase"] == "Pending"


class CrashingOnce(Program):
    def done_at(self, process: Process) -> float | None:
        return None if process.restarts or process.running is None else process.running + 30


def test_crashed_container_is_started_again_in_its_pod() -> None:
    w = world(CrashingOnce(ready_seconds=5, exit_code=1, message="boom"))
    deploy(w, replicas=1)
    w.run_until(lambda: all_ready(w))
    w.run_until(lambda: not all_ready(w))
    w.run_until(lambda: all_ready(w))
    (container,) = w.pods()[0]["status"]["containerStatuses"]
    assert container["restartCount"] == 1
    assert container["lastState"]["terminated"]["exitCode"] == 1
    assert container["lastState"]["terminated"]["message"] == "boom"
    w.advance(120)
    assert w.pods()[0]["status"]["containerStatuses"][0]["restartCount"] == 1


def test_crash_loop_waits_longer_each_time() -> None:
    w = world(Program(start_seconds=0, seconds=1, exit_code=1))
    deploy(w, replicas=1)
    w.advance(100)
    restarts = w.pods()[0]["status"]["containerStatuses"][0]["restartCount"]
    assert 3 <= restarts <= 6


def test_scaling_down_takes_the_unready_and_the_youngest_first() -> None:
    w = world()
    deploy(w, replicas=2)
    w.run_until(lambda: status(w).get("readyReplicas") == 2)
    old = {p["metadata"]["name"] for p in w.pods()}
    w.advance(30)
    scale(w, 4)
    w.run_until(lambda: len(w.pods()) == 4)
    scale(w, 3)
    w.advance(1)
    assert old <= {p["metadata"]["name"] for p in w.pods() if "deletionTimestamp" not in p["metadata"]}
    w.run_until(lambda: status(w).get("readyReplicas") == 3)
    scale(w, 2)
    w.advance(10)
    assert {p["metadata"]["name"] for p in w.pods()} == old
    scale(w, 0)
    w.advance(60)
    assert w.pods() == []
    assert "readyReplicas" not in status(w)


def test_pre_stop_delays_sigterm_within_the_grace_period() -> None:
    w = world(replace(ENGINE, term_seconds=100))
    lifecycle = {"preStop": {"sleep": {"seconds": 8}}}
    container = {"name": "main", "image": "e:1", "lifecycle": lifecycle}
    deploy(w, replicas=1, containers=[container], terminationGracePeriodSeconds=20)
    w.run_until(lambda: all_ready(w))
    scale(w, 0)
    w.settle()
    deleted = w.clock.now()
    process = w.kubelet.process_of(w.pods()[0])
    assert process is not None
    assert process.sigterm_at == deleted + 8
    w.run_until(lambda: w.pods() == [])
    assert w.clock.now() - deleted == pytest.approx(20)


def test_lost_pod_is_replaced_and_deleting_the_deployment_takes_everything() -> None:
    w = world()
    deploy(w)
    w.run_until(lambda: status(w).get("readyReplicas") == 2)
    w.api.delete("", "pods", w.pods()[0])
    w.run_until(lambda: len(w.pods()) == 2 and status(w).get("readyReplicas") == 2)
    w.api.delete("apps", "deployments", w.get("apps", "deployments", "default", "d"))
    w.run_until(lambda: w.pods() == [] and not w.server.store.of_type("apps", "replicasets"))


# Routes


def route(w: World, *services: str, parent: str = "gw") -> Obj:
    refs = [{"name": name, "port": 80, "weight": 1} for name in services]
    body = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "r"},
        "spec": {"parentRefs": [{"name": parent}], "rules": [{"backendRefs": refs}]},
    }
    return w.api.create(*ROUTES, "default", body)


def service(w: World, name: str) -> None:
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8000}]}
    w.api.create("", "services", "default", {"metadata": {"name": name}, "spec": spec})


def answers(w: World) -> dict[str, tuple[str, int]]:
    (parent,) = w.get(*ROUTES, "default", "r")["status"]["parents"]
    return {c["type"]: (c["reason"], c["observedGeneration"]) for c in parent["conditions"]}


def test_gateway_answers_at_the_generation_that_it_saw() -> None:
    w = world()
    service(w, "a")
    made = route(w, "a")
    assert not w.gateway.in_effect
    w.advance(1)
    assert answers(w) == {"Accepted": ("Accepted", 1), "ResolvedRefs": ("ResolvedRefs", 1)}
    assert made["spec"]["rules"][0]["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}], "the CRD's default"
    found = w.get(*ROUTES, "default", "r")
    spec = {**found["spec"], "rules": [{"backendRefs": [{"name": "b", "port": 80}]}]}
    w.api.put(*ROUTES, {**found, "spec": spec})
    w.advance(1)
    assert answers(w) == {"Accepted": ("Accepted", 2), "ResolvedRefs": ("BackendNotFound", 2)}
    service(w, "b")
    w.advance(1)
    assert answers(w)["ResolvedRefs"] == ("ResolvedRefs", 2)


def test_refused_route_is_not_put_into_effect_and_a_silent_gateway_says_nothing() -> None:
    w = world()
    service(w, "a")
    w.gateway.answer = lambda found, parent: Answer(False, "NotAllowedByListeners", "not from this namespace")
    route(w, "a")
    w.advance(1)
    assert answers(w)["Accepted"] == ("NotAllowedByListeners", 1)
    assert not w.gateway.in_effect
    w.gateway.answer = lambda found, parent: None
    found = w.get(*ROUTES, "default", "r")
    w.api.put(*ROUTES, {**found, "spec": {**found["spec"], "hostnames": ["a.example"]}})
    w.advance(10)
    assert answers(w)["Accepted"] == ("NotAllowedByListeners", 1)
