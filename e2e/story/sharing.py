"""Letters E to H: two deployments on one Gateway, addresses that are refused, capacity, people's decisions, sizes, and
leaving."""

from __future__ import annotations

import json
import time
from typing import Any

from e2e.cluster import chart
from e2e.story.deployments import Watched, condition_of, healthy, last, revision_of
from e2e.story.serving import BOT, client, manifest, quick
from e2e.story.stage import Stage, StoryError
from e2e.story.training import REFERENCE

OTHER = "other-bot"
_TURNED_AWAY = ("status 404", "status 503")
"""How a Gateway answers new requests when the route or the pods behind it are gone."""
_NO_SERVICE = "status 500: "
"""And when the Service is: without a body, an engine's own 500 has one."""


def e_gateway(stage: Stage) -> Watched:
    """A second one beside the first; a Gateway that refuses it first, a hostname that nobody may claim."""
    other = Watched(stage, OTHER)
    wanted = quick(manifest(stage, "05-serve.yaml", "ModelDeployment"))
    wanted["metadata"]["name"] = OTHER
    wanted["spec"]["model"] = {"fineTuneJobRef": {"name": REFERENCE}}
    gateway = {"name": "finetune", "namespace": chart.NAMESPACE}
    wanted["spec"]["traffic"] = {"parentRefs": [{**gateway, "sectionName": "no-such-listener"}]}
    stage.apply(wanted)
    status = other.wait("the Gateway refuses its route", lambda s: s.get("reason") == "RouteNotAccepted", timeout=240)
    stage.fact("E", "a route that the Gateway rejects", status["message"])
    if condition_of(status, "Stalled")["status"] != "True":
        raise StoryError(f"RouteNotAccepted is not Stalled: {status['conditions']}")
    other.patch(traffic={"parentRefs": None, "hostnames": ["bot.example.org"]})
    status = other.wait(
        "the hostname is refused", lambda s: condition_of(s, "Accepted")["reason"] == "HostnameNotAllowed", timeout=60
    )
    stage.fact("E", "a hostname outside the policy", condition_of(status, "Accepted")["message"])
    other.patch(traffic={"hostnames": None})
    other.wait("it serves", healthy, timeout=120)
    for name, stranger in ((BOT, OTHER), (OTHER, BOT)):
        asking = client(stage, name)
        asking.ask("I was charged twice")
        asking.model = stranger
        try:
            asking.ask("I was charged twice")
        except RuntimeError as error:
            if "404" not in str(error):
                raise StoryError(f"{name} answers for {stranger} with {error}") from error
        else:
            raise StoryError(f"{name}'s address answered for {stranger}")
    stage.fact("E", "two deployments on one Gateway", "each address reaches its own model only")
    return other


def f_people(stage: Stage, other: Watched) -> None:
    """No room for the candidate; a pause that waits for exactly the right word; an abort."""
    stable = revision_of(other.status)
    rollout: dict[str, Any] = {"steps": [{"weight": 50, "pause": "Manual"}], "progressDeadline": "8s"}
    other.patch(resources={"nodeSelector": {"example.com/no-such": "node"}}, rollout=rollout)
    status = other.wait("it is given up", lambda s: last(s).get("reason") == "InsufficientCapacity", timeout=120)
    stage.fact("F", "no capacity for the canary", last(status)["message"])
    if revision_of(status) != stable or other.weights() != {stable: 100}:
        raise StoryError(f"stable was touched: {status}")
    rollout["progressDeadline"] = "3m"
    other.patch(resources={"nodeSelector": None}, engine={"maxModelLen": 384}, rollout=rollout)
    status = other.wait("it pauses for a person", lambda s: s.get("phase") == "Paused", timeout=240)
    new = revision_of(status, "canary")
    other.annotate("promote", f"{stable}/1")

    def answered() -> bool:
        return "AnnotationIgnored" in stage.kubectl("-n", stage.namespace, "get", "events")

    stage.until("a stale promote is answered", answered, timeout=30)
    if other.status.get("phase") != "Paused":
        raise StoryError("a stale promote had an effect")
    other.annotate("abort", f"{new}/1")
    status = other.wait("it is aborted", lambda s: not s.get("rollout"), timeout=60)
    if last(status)["outcome"] != "Aborted" or other.weights() != {stable: 100}:
        raise StoryError(f"abort: {last(status)}, {other.weights()}")
    other.annotate("retry", new)
    other.wait("it pauses again", lambda s: s.get("phase") == "Paused", timeout=240)
    other.annotate("promote", f"{new}/1")
    status = other.wait("it is promoted", lambda s: healthy(s) and revision_of(s) == new, timeout=120)
    stage.fact("F", "manual pause", "stale promote ignored and said, abort, retry, promote")


def g_sizes(stage: Stage, other: Watched) -> None:
    """kubectl scale, replicas in Git and an HPA own spec.replicas one after the other; the operator only follows."""

    def ready(count: int) -> None:
        other.wait(
            f"{count} replicas",
            lambda s: s.get("ready") == f"{count}/{count}" and s.get("replicas") == count,
            timeout=240,
        )

    stage.kubectl("-n", stage.namespace, "scale", "modeldeployment", OTHER, "--replicas=2", show=True)
    ready(2)
    other.patch(replicas=1)
    ready(1)
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": OTHER, "namespace": stage.namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "finetune.dev/v1alpha1", "kind": "ModelDeployment", "name": OTHER},
            "minReplicas": 2,
            "maxReplicas": 2,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
                }
            ],
        },
    }
    stage.apply(hpa)
    ready(2)
    generation = other.object["metadata"]["generation"]
    time.sleep(5)
    if other.object["metadata"]["generation"] != generation:
        raise StoryError("somebody fights over spec.replicas")
    stage.kubectl("-n", stage.namespace, "delete", "hpa", OTHER)
    other.patch(replicas=1)
    ready(1)
    stage.fact("G", "kubectl scale, replicas in Git, an HPA", "each followed, no fight")


def h_leaving(stage: Stage, other: Watched) -> None:
    """A deleted ModelDeployment ends what it had begun to answer, then nothing of it is left."""
    with client(stage, OTHER, max_tokens=200, to_the_end=True) as traffic:
        stage.until("the client runs", lambda: traffic.good >= 5, timeout=60)
        stage.kubectl("-n", stage.namespace, "delete", "modeldeployment", OTHER, "--wait=false", show=True)
        stage.until("its pods are gone", lambda: not other.pods(), timeout=120)
    cut = [words for _, words in traffic.failures if words != _NO_SERVICE and not words.startswith(_TURNED_AWAY)]
    if cut:
        raise StoryError(f"answers were cut off: {cut[:3]}")
    selector = f"finetune.dev/deployment={OTHER}"
    kinds = "pods,deployments,services,jobs,httproutes,networkpolicies"

    def left() -> list[str]:
        out = json.loads(stage.kubectl("-n", stage.namespace, "get", kinds, "-l", selector, "-o", "json"))
        return [f"{o['kind']}/{o['metadata']['name']}" for o in out["items"]]

    stage.until("nothing is left", lambda: not left(), timeout=60)
    stage.fact("H", "a deleted ModelDeployment", "no answer was cut off, 0 objects left")
