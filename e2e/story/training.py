"""Letters a to d: training across two nodes, through preemption, kills, a lost node and an absent operator."""

from __future__ import annotations

import json
import signal
import time
from datetime import datetime

from e2e.story.stage import EXAMPLES, SYSTEM, Job, Stage, StoryError, attempts, step
from finetune_artifacts import NotFound, Store

SPOT_TAINT = "karpenter.sh/disrupted"
REFERENCE, DISTURBED, ZOMBIE = "support-bot", "support-bot-spot", "zombie"


def _seconds(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def a_train(stage: Stage) -> Job:
    """A 2-pod job trains across two nodes; `kubectl get` shows where it stands."""
    stage.narrator.command("kubectl apply -f examples/01-finetune.yaml")
    began = time.monotonic()
    stage.apply(stage.example("01-finetune.yaml", name=REFERENCE))
    stage.wait(REFERENCE, "both pods run", lambda j: j["status"].get("phase") == "Running")
    stage.fact("a", "apply to all pods running", f"{time.monotonic() - began:.0f} s")
    pods = stage.trainers(REFERENCE, 1)
    nodes = sorted(pod["spec"]["nodeName"] for pod in pods)
    if len(set(nodes)) != 2:
        raise StoryError(f"the two pods share a node: {nodes}")
    stage.fact("a", "nodes of the gang", ", ".join(nodes))
    stage.wait(REFERENCE, "progress shows", lambda j: step(j) > 0)
    shown = stage.kubectl("-n", stage.namespace, "get", "finetunejobs", show=True)
    header = shown.splitlines()[0].split()
    if header != ["NAME", "PHASE", "PROGRESS", "LOSS", "ETA", "RESTARTS", "GPUS", "AGE"]:
        raise StoryError(f"columns are {header}")
    said = stage.refused("apply", "-f", str(EXAMPLES / "bad" / "frozen-field.yaml"))
    if "spec.method is frozen" not in said:
        raise StoryError(f"a frozen field was edited mid-run: {said}")
    stage.fact("f", "a frozen field edited mid-run", said.splitlines()[-1])
    job = stage.wait(REFERENCE, "training is complete", lambda j: attempts(j)[-1].get("outcome") == "Succeeded")
    stage.fact("a", "steps, final loss", f"{step(job)}, {job['status']['progress'].get('lossText')}")
    return job


def b_preempt(stage: Stage) -> Job:
    """The node of one pod gets a spot-reclaim taint and the pod is evicted: nothing is lost."""
    stage.apply(stage.example("01-finetune.yaml", name=DISTURBED))
    stage.wait(DISTURBED, "step 40", lambda j: step(j) >= 40)
    pod = stage.trainers(DISTURBED, 1)[-1]
    node = pod["spec"]["nodeName"]
    stage.narrator.command(f"kubectl taint node {node} {SPOT_TAINT}=:NoSchedule   # what a spot reclaim looks like")
    stage.kubectl("taint", "node", node, f"{SPOT_TAINT}=:NoSchedule", "--overwrite")
    try:
        evict(stage, pod)
        job = stage.wait(
            DISTURBED,
            "it resumed",
            lambda j: j["status"].get("preemptions") and j["status"]["preemptions"][0].get("resumedAt"),
        )
    finally:
        stage.kubectl("taint", "node", node, f"{SPOT_TAINT}-")
    record = job["status"]["preemptions"][0]
    for key in ("noticedAt", "checkpointRequestedAt", "checkpointCommittedAt", "podsReleasedAt", "resumedAt"):
        if not record.get(key):
            raise StoryError(f"preemption record lacks {key}: {record}")
    if record["lostSteps"] != 0:
        raise StoryError(f"{record['lostSteps']} steps were lost: {record}")
    stage.narrator.output(json.dumps(record, indent=2))
    stage.fact(
        "b", "notice to committed checkpoint", f"{_seconds(record['noticedAt'], record['checkpointCommittedAt']):.1f} s"
    )
    stage.fact("b", "notice to resumed", f"{_seconds(record['noticedAt'], record['resumedAt']):.1f} s")
    stage.fact("b", "steps lost by the preemption", record["lostSteps"])
    return job


def evict(stage: Stage, pod: Job) -> None:
    meta = pod["metadata"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
    }
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction"
    stage.narrator.command(f"kubectl evict pod {meta['name']}   # by the eviction API, as a drain does")
    stage.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))


def c_kill(stage: Stage) -> Job:
    """A container gets SIGKILL: the next attempt resumes from the newest valid checkpoint."""
    before = stage.get(DISTURBED)
    number = attempts(before)[-1]["index"]
    resumed = attempts(before)[-1].get("startStep") or 0
    stage.wait(DISTURBED, "new steps and a checkpoint", lambda j: step(j) >= resumed + 20)
    pod = stage.trainers(DISTURBED, number)[0]
    stage.narrator.command(f"kill -9 <process of {pod['metadata']['name']} on {pod['spec']['nodeName']}>")
    stage.cluster.kill_container(pod["metadata"]["namespace"], pod["metadata"]["name"], signal.SIGKILL)
    job = stage.wait(
        DISTURBED,
        "the next attempt resumed",
        lambda j: attempts(j)[-1]["index"] > number and attempts(j)[-1].get("resumedAt"),
    )
    killed = next(a for a in attempts(job) if a["index"] == number)
    if job["status"]["restarts"] != 1 or "lostSteps" not in killed:
        raise StoryError(f"the kill is not in the books: {killed}")
    stage.fact("c", "outcome of the killed attempt", f"{killed['outcome']}, {killed['message']}")
    stage.fact("c", "steps lost by SIGKILL", killed["lostSteps"])
    stage.fact("c", "GPU seconds lost", json.dumps(job["status"]["totals"]["wastedGpuSeconds"]))
    return job


def d_operator_away(stage: Stage, *, away: float = 30) -> Job:
    """The operator is killed and stays away; a preemption meanwhile still ends in a committed checkpoint."""
    before = stage.get(DISTURBED)
    number = attempts(before)[-1]["index"]
    pods = {p["metadata"]["uid"] for p in stage.trainers(DISTURBED, number)}
    stage.narrator.command("kill -9 <both operator processes>; kubectl scale deployment --replicas=0")
    # Stopped first: a container that were killed before its pod is deleted would be started again, and one that were
    # killed after it would have been asked to end.
    _signal_operators(stage, signal.SIGSTOP)
    stage.kubectl("-n", SYSTEM, "scale", "deployment", "finetune-operator", "--replicas=0")
    gone = time.monotonic()
    stage.until("they are deleted", lambda: all("deletionTimestamp" in pod["metadata"] for pod in _operators(stage)))
    _signal_operators(stage, signal.SIGKILL)
    stage.until("no operator is left", lambda: not _operators(stage), timeout=60)
    alive = {p["metadata"]["uid"] for p in stage.trainers(DISTURBED, number) if p["status"]["phase"] == "Running"}
    if alive != pods:
        raise StoryError(f"pods changed while the operator was away: {pods} -> {alive}")
    evict(stage, stage.trainers(DISTURBED, number)[-1])
    time.sleep(max(0.0, away - (time.monotonic() - gone)))
    stage.until(
        "the gang ended by itself",
        lambda: all(p["status"]["phase"] in ("Failed", "Succeeded") for p in stage.trainers(DISTURBED, number)),
        timeout=90,
    )
    stage.kubectl("-n", SYSTEM, "scale", "deployment", "finetune-operator", "--replicas=2")
    stage.until("an operator runs", lambda: any(_ready(pod) for pod in _operators(stage)), timeout=90)
    back = time.monotonic()
    stage.wait(DISTURBED, "the operator caught up", lambda j: attempts(j)[-1]["index"] > number, timeout=60)
    stage.fact("d", "operator ready to caught up", f"{time.monotonic() - back:.1f} s")
    job = stage.wait(DISTURBED, "it resumed", lambda j: attempts(j)[-1].get("resumedAt"))
    ended = next(a for a in attempts(job) if a["index"] == number)
    if ended["outcome"] != "Preempted" or ended.get("lostSteps") != 0:
        raise StoryError(f"the preemption without an operator lost work: {ended}")
    stage.fact("d", "steps lost by a preemption without an operator", ended["lostSteps"])
    return job


def _signal_operators(stage: Stage, number: signal.Signals) -> None:
    for pod in _operators(stage):
        stage.cluster.kill_container(pod["metadata"]["namespace"], pod["metadata"]["name"], number)


def _operators(stage: Stage) -> list[Job]:
    out = json.loads(
        stage.kubectl("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/name=finetune-operator", "-o", "json")
    )
    return list(out["items"])


def _ready(pod: Job) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or [])


def compare(stage: Stage) -> None:
    """The disturbed run ends with the very parameters of the undisturbed one."""
    disturbed = stage.wait(
        DISTURBED, "training is complete", lambda j: attempts(j)[-1].get("outcome") == "Succeeded", timeout=300
    )
    reference = stage.get(REFERENCE)
    digests = [job["status"]["checkpoint"]["digest"] for job in (reference, disturbed)]
    if digests[0] != digests[1]:
        raise StoryError(f"trainable parameters differ: {digests}")
    totals = disturbed["status"]["totals"]
    stage.fact("b", "digest of the parameters, undisturbed = disturbed", digests[0])
    stage.fact(
        "b",
        "attempts, preemptions, restarts of the disturbed run",
        f"{totals['attempts']}, {totals['preemptions']}, {totals['restarts']}",
    )


def c_zombie(stage: Stage) -> Job:
    """A node becomes unreachable while its pod keeps training: the next attempt starts, the zombie is refused."""
    manifest = stage.example(
        "01-finetune.yaml",
        name=ZOMBIE,
        resources={"nodes": 1},
        training={"maxSteps": 2000, "globalBatchSize": 8, "microBatchSize": 8},
        checkpoint={"intervalSteps": 20},
    )
    stage.apply(manifest)
    stage.wait(ZOMBIE, "a checkpoint", lambda j: (j["status"].get("checkpoint") or {}).get("step", 0) >= 20)
    (pod,) = stage.trainers(ZOMBIE, 1)
    node = pod["spec"]["nodeName"]
    stage.narrator.command(f"# {node} loses its kubelet; the pod's process goes on")
    stage.cluster.isolate(node)
    try:
        stage.until(f"{node} is unreachable", lambda: _unreachable(stage, node), timeout=120)
        marked = time.monotonic()
        job = stage.wait(ZOMBIE, "attempt 2 exists", lambda j: attempts(j)[-1]["index"] == 2, timeout=60)
        stage.until("attempt 2 has a pod", lambda: stage.trainers(ZOMBIE, 2), timeout=60)
        stage.fact("c", "node marked unreachable to the next attempt's pod", f"{time.monotonic() - marked:.1f} s")
        job = stage.wait(ZOMBIE, "attempt 2 trains", lambda j: attempts(j)[-1].get("resumedAt"))
        run = stage.store.child("/".join(job["status"]["resolved"]["runUri"].split("/")[3:]))
        words = stage.until("the zombie said its last words", lambda: _last_words(run, 1), timeout=120)
        if words["exitCode"] != 86:
            raise StoryError(f"the zombie was not refused: {words}")
        stage.fact("c", "the zombie's last words", words["message"])
    finally:
        stage.cluster.heal(node)
    stage.kubectl("-n", stage.namespace, "delete", "finetunejob", ZOMBIE, "--wait=true", "--timeout=120s")
    stage.until(f"{node} is back", lambda: not _unreachable(stage, node), timeout=120)
    return job


def _unreachable(stage: Stage, node: str) -> bool:
    out = json.loads(stage.kubectl("get", "node", node, "-o", "json"))
    return any(c["type"] == "Ready" and c["status"] == "Unknown" for c in out["status"]["conditions"])


def _last_words(run: Store, attempt: int) -> Job | None:
    try:
        words: Job = json.loads(run.get_bytes(f"attempts/{attempt}/exit-0.json"))
    except NotFound:
        return None
    return words
