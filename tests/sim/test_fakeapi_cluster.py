"""The simulated controllers: each rule that an operator of Jobs depends on."""

from __future__ import annotations

from typing import Any

import pytest
from fakeapi import World
from fakeapi.controllers import Program
from helpers import job

GPUS = {"nvidia.com/gpu": "4"}
Obj = dict[str, Any]


def world(*, nodes: int = 2, seed: int = 0, **program: Any) -> World:
    return World({f"n{n}": GPUS for n in range(nodes)}, seed=seed, programs=lambda pod: Program(**program))


def submit(w: World, gpus: int = 4, **spec: Any) -> None:
    body = job("j", podReplacementPolicy="Failed", **spec)
    container = {"name": "main", "image": "i:1", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
    body["spec"]["template"] = {"spec": {**body["spec"]["template"]["spec"], "containers": [container]}}
    w.api.create("batch", "jobs", "default", body)


def the_job(w: World) -> Obj:
    return w.get("batch", "jobs", "default", "j")


def conditions(obj: Obj) -> dict[str, str]:
    found = obj["status"].get("conditions", [])
    return {c["type"]: c.get("reason", "") for c in found if c["status"] == "True"}


def running(w: World, count: int = 2) -> bool:
    return sum(p["status"].get("phase") == "Running" for p in w.pods()) == count


def test_indexed_job_to_completion() -> None:
    w = world(seconds=30)
    submit(w)
    w.run_until(lambda: running(w))
    pods = sorted(w.pods(), key=lambda p: str(p["metadata"]["name"]))
    assert [p["metadata"]["name"].rpartition("-")[0] for p in pods] == ["j-0", "j-1"]
    assert [p["spec"]["hostname"] for p in pods] == ["j-0", "j-1"]
    assert [p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] for p in pods] == ["0", "1"]
    assert {p["spec"]["nodeName"] for p in pods} == {"n0", "n1"}
    assert all(p["status"]["podIP"] for p in pods)
    w.settle()
    assert the_job(w)["status"]["ready"] == the_job(w)["status"]["active"] == 2
    w.advance(60)
    status = the_job(w)["status"]
    assert conditions(the_job(w)) == {
        "SuccessCriteriaMet": "CompletionsReached",
        "Complete": "CompletionsReached",
    }
    assert (status["succeeded"], status["completedIndexes"], status["terminating"]) == (2, "0-1", 0)
    assert "active" not in status
    assert all("batch.kubernetes.io/job-tracking" not in p["metadata"].get("finalizers", []) for p in w.pods())


def test_one_failure_ends_the_gang() -> None:
    w = world(seconds=None, term_seconds=3.0)
    submit(w)
    w.run_until(lambda: running(w))
    victim = w.pods()[0]
    w.kubelet.end(victim, 71, "out of memory")
    w.settle()
    assert "FailureTarget" in conditions(the_job(w))
    assert "Failed" not in conditions(the_job(w)), "the survivor is still ending"
    w.advance(10)
    assert conditions(the_job(w))["Failed"] == "BackoffLimitExceeded"
    ended = [p["status"]["containerStatuses"][0]["state"]["terminated"] for p in w.pods()]
    assert [e["exitCode"] for e in ended if e.get("message") == "out of memory"] == [71]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [71]}}, "PodFailurePolicy"),
        ({"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [71]}}, "BackoffLimitExceeded"),
        ({"action": "Count", "onExitCodes": {"operator": "In", "values": [71]}}, "BackoffLimitExceeded"),
    ],
)
def test_failure_policy_leaves_its_reason(rule: Obj, reason: str) -> None:
    w = world(seconds=5, exit_code=71)
    submit(w, podFailurePolicy={"rules": [rule]})
    w.advance(60)
    failed = next(c for c in the_job(w)["status"]["conditions"] if c["type"] == "Failed")
    assert failed["reason"] == reason
    if reason == "PodFailurePolicy":
        assert "failed with exit code 71" in failed["message"]


def test_ignored_failures_are_replaced() -> None:
    w = world(seconds=None)
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    submit(w, podFailurePolicy={"rules": [rule]})
    w.run_until(lambda: running(w))
    w.taint(w.pods()[0]["spec"]["nodeName"], "gone", "NoExecute")
    w.add_node("n9", GPUS)
    w.advance(60)
    assert running(w)
    assert not conditions(the_job(w))
    assert the_job(w)["status"].get("failed", 0) == 0


def test_suspend_deletes_the_pods_and_resume_makes_new_ones() -> None:
    w = world(seconds=None)
    submit(w)
    w.run_until(lambda: running(w))
    w.api.put("batch", "jobs", {**the_job(w), "spec": {**the_job(w)["spec"], "suspend": True}})
    w.advance(40)
    assert w.pods() == []
    assert conditions(the_job(w)) == {"Suspended": "JobSuspended"}
    w.api.put("batch", "jobs", {**the_job(w), "spec": {**the_job(w)["spec"], "suspend": False}})
    w.run_until(lambda: running(w))
    assert not conditions(the_job(w))


def test_deadline() -> None:
    w = world(seconds=None)
    submit(w, activeDeadlineSeconds=50)
    w.advance(100)
    assert conditions(the_job(w))["Failed"] == "DeadlineExceeded"


def test_foreground_deletion_waits_for_the_pods() -> None:
    w = world(seconds=None, term_seconds=8.0)
    submit(w)
    w.run_until(lambda: running(w))
    w.api.delete("batch", "jobs", the_job(w), propagationPolicy="Foreground")
    w.settle()
    assert the_job(w)["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert all(p["metadata"]["deletionTimestamp"] for p in w.pods())
    w.advance(10)
    assert w.pods() == []
    assert w.find("batch", "jobs", "default", "j") is None


@pytest.mark.parametrize(("grace", "code"), [(30, 85), (2, 137)])
def test_grace_period(grace: int, code: int) -> None:
    """A process that saves for 5 s is killed by a grace period of 2."""
    w = world(seconds=None, term_seconds=5.0, term_exit_code=85, term_message="saved")
    submit(w)
    w.run_until(lambda: running(w))
    victim = w.pods()[0]
    told: list[Obj] = []
    w.server.store.subscribe(lambda change: told.append(change.new) if change.new else None)
    w.api.delete("", "pods", victim, gracePeriodSeconds=grace)
    w.advance(60)
    ends = [
        o["status"]["containerStatuses"][0]["state"]["terminated"]
        for o in told
        if o["metadata"]["uid"] == victim["metadata"]["uid"] and o["status"].get("phase") == "Failed"
    ]
    assert ends[0]["exitCode"] == code
    assert ends[0].get("message") == ("saved" if code == 85 else None)


def test_unschedulable_says_why_and_is_scheduled_when_room_appears() -> None:
    w = world(nodes=1, seconds=None)
    submit(w)
    w.settle()
    waiting = next(p for p in w.pods() if not p["spec"].get("nodeName"))
    (why,) = [c for c in waiting["status"]["conditions"] if c["type"] == "PodScheduled"]
    assert (why["status"], why["reason"]) == ("False", "Unschedulable")
    assert "Insufficient nvidia.com/gpu" in why["message"]
    w.add_node("late", GPUS)
    w.run_until(lambda: running(w))


@pytest.mark.parametrize(
    ("pod", "fits"),
    [
        ({}, False),
        ({"tolerations": [{"key": "k", "operator": "Exists"}]}, True),
        ({"tolerations": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}, True),
        ({"tolerations": [{"key": "k", "value": "other"}]}, False),
        ({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"zone": "a"}}, True),
        ({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"zone": "b"}}, False),
        ({"tolerations": [{"operator": "Exists"}], "affinity": "NotIn"}, False),
        ({"tolerations": [{"operator": "Exists"}], "affinity": "In"}, True),
    ],
    ids=str,
)
def test_where_a_pod_may_go(pod: Obj, fits: bool) -> None:
    w = World(seed=1)
    w.add_node("n", {}, {"zone": "a"})
    w.taint("n", "k", "NoSchedule", "v")
    spec = {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never", **pod}
    if "affinity" in pod:
        rule = {"key": "kubernetes.io/hostname", "operator": pod["affinity"], "values": ["n"]}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    w.api.create("", "pods", "default", {"metadata": {"name": "p"}, "spec": spec})
    w.settle()
    assert bool(w.pods()[0]["spec"].get("nodeName")) == fits


def test_silent_node_is_tainted_and_its_pods_hang_until_it_speaks() -> None:
    w = world(seconds=None)
    submit(w)
    w.run_until(lambda: running(w))
    victim = w.pods()[0]
    node = victim["spec"]["nodeName"]
    w.cut_off(node)
    w.advance(30)
    assert conditions(w.get("", "nodes", "", node)).get("Ready") is not None
    w.advance(20)
    silent = w.get("", "nodes", "", node)
    assert [c["status"] for c in silent["status"]["conditions"] if c["type"] == "Ready"] == ["Unknown"]
    assert {t["effect"] for t in silent["spec"]["taints"]} == {"NoSchedule", "NoExecute"}
    w.advance(310)
    hanging = w.get("", "pods", "default", victim["metadata"]["name"])
    assert hanging["metadata"]["deletionTimestamp"]
    assert conditions(hanging)["DisruptionTarget"] == "DeletionByTaintManager"
    process = w.kubelet.process_of(hanging)
    assert process is not None
    assert process.alive(), "nobody told the process"
    w.reconnect(node)
    w.advance(60)
    assert w.find("", "pods", "default", victim["metadata"]["name"]) is None
    assert not w.get("", "nodes", "", node)["spec"].get("taints")


def test_pods_of_a_removed_node_are_collected() -> None:
    w = world(seconds=None)
    submit(w)
    w.run_until(lambda: running(w))
    victim = w.pods()[0]
    w.destroy(victim["spec"]["nodeName"])
    w.advance(10)
    assert w.find("", "pods", "default", victim["metadata"]["name"]) is None
    assert the_job(w)["status"]["failed"] >= 1


def test_image_that_cannot_be_pulled() -> None:
    w = world(image_pull_fails=True)
    submit(w)
    w.advance(60)
    for pod in w.pods():
        assert pod["status"]["phase"] == "Pending"
        assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"


def test_one_seed_gives_one_history() -> None:
    def history(seed: int) -> list[Any]:
        w = world(seed=seed, seconds=7)
        submit(w)
        w.advance(30)
        return w.server.writes.entries

    assert history(1) == history(1)
    assert history(1) != history(2)


def test_a_world_that_cannot_get_there_says_so() -> None:
    w = world(seconds=None)
    submit(w)
    with pytest.raises(AssertionError, match="not reached"):
        w.run_until(lambda: False, max_seconds=100)
