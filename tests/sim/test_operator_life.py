"""Whole lives of a FineTuneJob under the real operator: what a user reads in status after each kind of trouble."""

from __future__ import annotations

from typing import Any

import pytest
from opsim import NAME, NAMESPACE, Sim

from finetune_operator.core.names import GANG_SERVICE


def training(sim: Sim, step: int = 1) -> bool:
    """The newest attempt has taken this many steps beyond its start."""
    gangs = sim.run_of().gangs
    if not gangs:
        return False
    newest = gangs[max(gangs)]
    return newest.started is not None and newest.step(sim.world.clock.now()) >= newest.start_step + step


def condition(status: dict[str, Any], kind: str) -> str | None:
    return next((c["status"] for c in status.get("conditions", []) if c["type"] == kind), None)


def finish(sim: Sim) -> dict[str, Any]:
    """Runs to the end, and checks that the end is one: a new operator finds nothing to write."""
    sim.until(lambda: sim.phase() in ("Succeeded", "Failed"), within=3000, operators=True)
    sim.settle()
    status = sim.status()
    mark = sim.world.server.writes.mark()
    sim.kill()
    sim.start_operator()
    sim.run_for(120)
    assert sim.operator_writes(mark) == []
    assert sim.status() == status
    return status


def test_from_apply_to_complete() -> None:
    with Sim(1) as sim:
        sim.submit()
        sim.start_operator()
        status = finish(sim)
        assert status["phase"] == "Succeeded"
        assert condition(status, "Complete") == "True"
        assert condition(status, "Published") == "True"
        assert [a["outcome"] for a in status["attempts"]] == ["Succeeded"]
        assert status["progress"]["summary"] == "60/60 100%"
        assert status["restarts"] == 0
        assert sim.watchdog.jobs_deleted == 0


def test_reclaimed_node_loses_no_step() -> None:
    with Sim(2) as sim:
        sim.submit()
        sim.start_operator()
        sim.until(lambda: training(sim, 13))
        node = sim.pods()[1]["spec"]["nodeName"]
        sim.reclaim(node)
        sim.until(lambda: bool(sim.status()["attempts"][-1]["index"] == 2 and training(sim)))
        sim.destroy(node)
        status = finish(sim)
        assert status["phase"] == "Succeeded"
        first, second = status["attempts"]
        assert first["outcome"] == "Preempted"
        assert first["exitCode"] == 85
        assert first["lostSteps"] == 0
        assert second["startStep"] == first["endStep"] >= 13
        (record,) = status["preemptions"]
        moments = ["noticedAt", "checkpointRequestedAt", "checkpointCommittedAt", "podsReleasedAt", "resumedAt"]
        assert all(record.get(m) for m in moments), record
        assert record["lostSteps"] == 0
        assert record["checkpointStep"] == first["endStep"], "the answer to the stop, not the periodic one before"
        assert record["node"] == node
        assert status["restarts"] == 0


def test_evicted_pod_stops_the_gang_together() -> None:
    with Sim(3) as sim:
        sim.submit()
        sim.start_operator()
        sim.until(lambda: training(sim, 17))
        sim.world.api.delete("", "pods", sim.pods()[0])
        status = finish(sim)
        assert status["phase"] == "Succeeded"
        assert status["attempts"][0]["outcome"] == "Preempted"
        assert status["attempts"][0]["lostSteps"] == 0
        assert status["restarts"] == 0


def test_killed_pod_resumes_from_the_newest_checkpoint() -> None:
    with Sim(4) as sim:
        sim.submit()
        sim.start_operator()
        sim.until(lambda: training(sim, 27))
        sim.crash_pod(sim.pods()[0])
        status = finish(sim)
        assert status["phase"] == "Succeeded"
        first, second = status["attempts"]
        assert first["outcome"] == "Error"
        assert second["startStep"] == 20
        assert first["lostSteps"] >= 1
        assert status["restarts"] == 1
        assert status["totals"]["wastedGpuSeconds"]["failure"] > 0


def test_lost_node_is_fenced_and_its_zombie_harmless() -> None:
    with Sim(5) as sim:
        sim.submit(resources={"nodes": 1})
        sim.start_operator()
        sim.until(lambda: training(sim, 12))
        node = sim.pods()[0]["spec"]["nodeName"]
        lost_at = sim.loop.now
        sim.cut_off(node)
        sim.until(lambda: len(sim.attempts()) == 2)
        assert sim.loop.now - lost_at < 40 + 15  # 40 s until the node controller says so
        sim.until(lambda: 2 in sim.run_of().fences)
        zombies = [p for p in sim.alive_pods() if p["spec"]["nodeName"] == node]
        assert zombies, "the pod on the lost node goes on"
        run = sim.run_of()
        committed = run.gangs[1].committed(run.fences[2])
        sim.run_for(20)
        assert run.gangs[1].committed(sim.world.clock.now()) == committed
        sim.world.reconnect(node)
        status = finish(sim)
        assert status["phase"] == "Succeeded"
        assert status["attempts"][0]["outcome"] == "NodeLost"


def test_operator_away_for_a_while_is_not_missed() -> None:
    with Sim(6) as sim:
        sim.submit()
        sim.start_operator()
        sim.until(lambda: training(sim, 5))
        sim.kill()
        sim.world.api.delete("", "pods", sim.pods()[1])  # preempted while nobody looks
        sim.run_for(30)
        assert sim.run_of().gangs[1].committed(sim.world.clock.now()) >= 5
        sim.start_operator()
        came_back = sim.loop.now
        sim.until(lambda: len(sim.attempts()) == 2, within=10)
        assert sim.loop.now - came_back <= 10
        status = finish(sim)
        assert status["phase"] == "Succeeded"
        assert status["attempts"][0]["outcome"] == "Preempted"
        assert status["attempts"][0]["lostSteps"] == 0


def test_suspend_frees_the_gpus_and_resume_goes_on() -> None:
    with Sim(7) as sim:
        sim.submit()
        sim.start_operator()
        sim.until(lambda: training(sim, 15))
        sim.edit(suspend=True)
        sim.until(lambda: sim.phase() == "Suspended" and not sim.alive_pods())
        sim.run_for(100)
        assert not sim.alive_pods()
        sim.edit(suspend=False)
        status = finish(sim)
        assert status["phase"] == "Succeeded"
        assert status["attempts"][0]["outcome"] == "Suspended"
        assert status["attempts"][1]["startStep"] == status["attempts"][0]["endStep"] >= 15
        assert status["restarts"] == 0


def test_waits_for_what_may_still_arrive() -> None:
    with Sim(8) as sim:
        sim.run_of().preflight_waits = 3
        sim.submit()
        sim.start_operator()
        sim.until(lambda: sim.status().get("reason") == "WaitingForData")
        assert condition(sim.status(), "Accepted") == "False"
        assert not sim.pods()
        status = finish(sim)
        assert status["phase"] == "Succeeded"


def test_failed_gate_and_edited_gate_without_training_again() -> None:
    with Sim(9) as sim:
        sim.run_of().gate_passes = False
        sim.submit()
        sim.start_operator()
        sim.until(lambda: sim.phase() == "Failed")
        assert sim.status()["reason"] == "GateFailed"
        sim.settle()
        sim.run_of().gate_passes = True
        sim.edit(evaluation={"perplexity": False})
        sim.until(lambda: sim.phase() == "Succeeded")
        status = finish(sim)
        assert len(status["attempts"]) == 1
        assert status["publish"]["index"] == 2


def test_published_before_is_not_trained_again() -> None:
    with Sim(10) as sim:
        sim.run_of().published = True
        sim.submit()
        sim.start_operator()
        status = finish(sim)
        assert (status["phase"], status["reason"]) == ("Succeeded", "AlreadyPublished")
        assert not status.get("attempts")


def test_gives_up_in_words_when_nothing_helps() -> None:
    with Sim(11) as sim:
        sim.submit(retry={"maxRestarts": 1, "backoff": {"initial": "1s", "max": "2s"}})
        sim.start_operator()

        def crash_whoever_runs() -> bool:
            if sim.alive_pods() and training(sim, 12):
                sim.crash_pod(sim.alive_pods()[0], 1)
            return sim.phase() == "Failed"

        sim.until(crash_whoever_runs)
        status = finish(sim)
        assert status["reason"] == "MaxRestartsExceeded"
        assert "maxRestarts is 1" in status["message"]
        assert [a["outcome"] for a in status["attempts"]] == ["Error", "Error"]


@pytest.mark.parametrize("what", ["Job", "Service", "Pod"])
def test_what_belongs_to_others_is_named_and_left_alone(what: str) -> None:
    with Sim(12) as sim:
        foreign = _foreign(sim, what)
        sim.submit()
        sim.start_operator()
        sim.until(lambda: sim.status().get("reason") == "NameConflict")
        sim.run_for(120)
        group, plural, name = foreign
        found = sim.world.get(group, plural, NAMESPACE, name)
        assert "finetune.dev/job" not in found["metadata"].get("labels", {})
        assert name in sim.status()["message"]
        sim.world.api.delete(group, plural, found, propagationPolicy="Background")
        assert finish(sim)["phase"] == "Succeeded"


def _foreign(sim: Sim, what: str) -> tuple[str, str, str]:
    spec = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}], "schedulerName": "nobody"}
    if what == "Job":
        body = {"metadata": {"name": f"{NAME}-1"}, "spec": {"suspend": True, "template": {"spec": spec}}}
        sim.world.api.create("batch", "jobs", NAMESPACE, body)
        return "batch", "jobs", f"{NAME}-1"
    if what == "Service":
        body = {"metadata": {"name": GANG_SERVICE}, "spec": {"ports": [{"port": 80}]}}
        sim.world.api.create("", "services", NAMESPACE, body)
        return "", "services", GANG_SERVICE
    body = {"metadata": {"name": f"{NAME}-preflight"}, "spec": {**spec, "nodeSelector": {"no": "where"}}}
    sim.world.api.create("", "pods", NAMESPACE, body)
    return "", "pods", f"{NAME}-preflight"


def test_deleting_the_job_takes_everything_along() -> None:
    with Sim(13) as sim:
        sim.submit()
        sim.start_operator()
        sim.until(lambda: training(sim, 3))
        sim.world.api.delete("finetune.dev", "finetunejobs", sim.job(), propagationPolicy="Background")
        sim.settle()
        left = [key for key, _ in sim.world.server.store.all() if key.namespace == NAMESPACE and key.plural != "events"]
        assert left == []


def test_progress_is_written_rarely() -> None:
    """Status writes are events for every watcher: one in 15 s is enough for a job that just trains."""
    with Sim(14) as sim:
        sim.run_of().total = 2000
        sim.run_of().interval = 100
        sim.submit()
        sim.start_operator()
        sim.until(lambda: training(sim, 30))
        mark = sim.world.server.writes.mark()
        sim.run_for(900)
        writes = sim.operator_writes(mark)
        assert {w.kind for w in writes} <= {"FineTuneJob", "Event"}
        assert 50 <= len([w for w in writes if w.kind == "FineTuneJob"]) <= 62
        assert sim.status()["progress"]["step"] > 900


def test_unreachable_pods_are_shown_and_nothing_else_follows() -> None:
    with Sim(15) as sim:
        sim.run_of().total = 400
        sim.submit()
        sim.start_operator()
        sim.until(lambda: training(sim, 20))
        sim.pods_unreachable = True
        sim.run_for(200)
        assert sim.status()["progress"]["unreachableSince"]
        assert sim.phase() == "Running"
        assert len(sim.alive_pods()) == 2
        sim.pods_unreachable = False
        sim.run_for(60)
        assert "unreachableSince" not in sim.status()["progress"]
        assert len(finish(sim)["attempts"]) == 1


def test_jobs_of_a_namespace_share_one_service() -> None:
    with Sim(16, nodes=4) as sim:
        for name in ("one", "two"):
            sim.submit(name)
        sim.start_operator()
        sim.until(lambda: all(sim.phase(n) == "Succeeded" for n in ("one", "two")), within=1200)
        sim.settle()
        service = sim.world.get("", "services", NAMESPACE, GANG_SERVICE)
        assert sorted(r["name"] for r in service["metadata"]["ownerReferences"]) == ["one", "two"]
        sim.world.api.delete("finetune.dev", "finetunejobs", sim.job("one"), propagationPolicy="Background")
        sim.settle()
        assert sim.world.find("", "services", NAMESPACE, GANG_SERVICE)
        sim.world.api.delete("finetune.dev", "finetunejobs", sim.job("two"), propagationPolicy="Background")
        sim.settle()
        assert sim.world.find("", "services", NAMESPACE, GANG_SERVICE) is None


def test_the_shared_service_is_there_as_long_as_anybody_needs_it() -> None:
    """More jobs than it has owners: when its owners go, those that stay make it anew."""
    names = [f"job{n}" for n in range(6)]
    with Sim(19, nodes=6) as sim:
        for name in names:
            sim.run_of(name).total = 400
            sim.submit(name, resources={"nodes": 1})
        sim.start_operator()
        sim.until(lambda: all(sim.run_of(n).newest(sim.world.clock.now()) >= 10 for n in names), within=1200)
        owners = sim.world.get("", "services", NAMESPACE, GANG_SERVICE)["metadata"]["ownerReferences"]
        for name in [r["name"] for r in owners]:
            sim.world.api.delete("finetune.dev", "finetunejobs", sim.job(name), propagationPolicy="Background")
        sim.run_for(30)
        left = [n for n in names if sim.world.find("finetune.dev", "finetunejobs", NAMESPACE, n)]
        assert left
        service = sim.world.find("", "services", NAMESPACE, GANG_SERVICE)
        assert service is not None
        assert {r["name"] for r in service["metadata"]["ownerReferences"]} <= set(left)
        assert all(len(sim.attempts(n)) == 1 for n in left)


def test_applied_again_in_the_middle_goes_on_where_it_was() -> None:
    """Git tools replace objects. The new job has another uid, its attempts are its own, its run directory is the same."""
    with Sim(17) as sim:
        sim.submit()
        sim.start_operator()
        for count, step in enumerate((12, 22, 32), start=1):  # three preemptions leave three fences behind
            sim.until(lambda step=step: _step(sim) >= step)
            sim.world.api.delete("", "pods", sim.alive_pods()[0])
            sim.until(lambda count=count: len(sim.attempts()) > count)
        sim.until(lambda: training(sim))
        old = sim.job()["metadata"]["uid"]
        sim.world.api.delete("finetune.dev", "finetunejobs", sim.job(), propagationPolicy="Background")
        sim.submit()
        reached = sim.run_of().newest(sim.world.clock.now())
        status = finish(sim)
        assert sim.job()["metadata"]["uid"] != old
        assert status["phase"] == "Succeeded"
        assert len(status["attempts"]) <= 2, "a former pod may still have put a fence; nothing else is tried in vain"
        assert status["attempts"][-1]["startStep"] >= reached >= 32


def _step(sim: Sim) -> int:
    gangs = sim.run_of().gangs
    return gangs[max(gangs)].step(sim.world.clock.now()) if gangs else 0


def test_start_timeout_frees_the_gpus_and_says_why() -> None:
    with Sim(18, nodes=1) as sim:
        sim.submit(scheduling={"startTimeout": "60s"}, retry={"maxRestarts": 1})
        sim.start_operator()
        sim.until(lambda: sim.phase() == "Failed", within=600)
        status = finish(sim)
        assert [a["outcome"] for a in status["attempts"]] == ["StartTimeout", "StartTimeout"]
        assert "Unschedulable" in status["attempts"][0]["message"]
        assert not sim.alive_pods()


def test_a_custom_trainer_lives_under_the_same_contract() -> None:
    """Its pod has an init container and a sidecar; notices, attempts and publishing are as for any other."""
    custom = {"type": "Custom", "image": "own:1", "custom": {"command": ["python", "/opt/train.py"]}}
    with Sim(17) as sim:
        sim.submit(trainer=custom, method=None)
        sim.start_operator()
        sim.until(lambda: training(sim, 13))
        node = sim.pods()[1]["spec"]["nodeName"]
        assert [c["name"] for c in sim.pods()[1]["spec"]["initContainers"]] == ["launcher", "storage"]
        sim.reclaim(node)
        sim.until(lambda: bool(sim.status()["attempts"][-1]["index"] == 2 and training(sim)))
        sim.destroy(node)
        status = finish(sim)
        assert status["phase"] == "Succeeded"
        first, second = status["attempts"]
        assert (first["outcome"], first["exitCode"], first["lostSteps"]) == ("Preempted", 85, 0)
        assert second["startStep"] == first["endStep"]
