"""Letters A and B: a deployment that waits for its job, then serves; a second model that takes over under traffic."""

from __future__ import annotations

import time
from typing import Any

import yaml

from e2e.cluster import chart
from e2e.story.deployments import Watched, condition_of, healthy, last, revision_of
from e2e.story.stage import EXAMPLES, Job, Stage, StoryError
from e2e.story.traffic import Client
from e2e.story.training import REFERENCE

BOT = "support-bot"
SECOND = "support-bot-v2"
QUICK = {
    "interval": "2s",
    "minSamples": 30,
    "metrics": [{"name": "ErrorRate", "max": "0.05"}, {"name": "E2ELatency", "maxRegressionPercent": 50}],
}
"""Two engines share two busy cores here: their latencies differ by what the machine does."""
PAUSE = "15s"


def manifest(stage: Stage, file: str, kind: str) -> Job:
    """One document of an example, in the story's namespace."""
    for document in yaml.safe_load_all((EXAMPLES / file).read_text()):
        if document["kind"] == kind:
            document["metadata"]["namespace"] = stage.namespace
            return dict(document)
    raise LookupError(f"{file} has no {kind}")


def quick(deployment: Job, **spec: Any) -> Job:
    """With the pauses of a story instead of a working day."""
    out = {**deployment, "spec": {**deployment["spec"], **spec}}
    rollout = dict(out["spec"].get("rollout", {}))
    analysis = {**rollout.get("analysis", {}), **QUICK}
    rollout |= {
        "steps": [{"weight": 20, "pause": PAUSE}, {"weight": 50, "pause": PAUSE}],
        "analysis": analysis,
        "drainTimeout": "10s",
        "stallTimeout": "15s",
        "progressDeadline": "3m",
    }
    out["spec"]["rollout"] = rollout
    return out


def client(stage: Stage, name: str = BOT, **more: Any) -> Client:
    host = f"{name}.{stage.namespace}.{chart.DOMAIN}"
    return Client(stage.cluster.gateway, host, model=name, **more)


def a_serve(stage: Stage) -> Watched:
    """It names a job that still runs, says so, and serves what that job publishes."""
    stage.narrator.command("kubectl apply -f examples/06-canary.yaml   # its FineTuneJob")
    stage.apply(manifest(stage, "06-canary.yaml", "FineTuneJob"))
    bot = Watched(stage, BOT)
    stage.narrator.command("kubectl apply -f examples/05-serve.yaml    # naming that job, while it runs")
    wanted = quick(manifest(stage, "05-serve.yaml", "ModelDeployment"))
    wanted["spec"]["model"] = {"fineTuneJobRef": {"name": SECOND}}
    stage.apply(wanted)
    status = bot.wait(
        "it says what it waits for",
        lambda s: condition_of(s, "Accepted")["reason"] == "WaitingForFineTuneJob",
        timeout=60,
    )
    words = condition_of(status, "Accepted")["message"]
    if SECOND not in words:
        raise StoryError(f"the wait does not name the job: {words}")
    stage.fact("A", "it waits in words", words)
    job = stage.wait(SECOND, "it is published", lambda j: j["status"].get("phase") == "Succeeded", timeout=400)
    began = time.monotonic()
    status = bot.wait("it serves revision 1", healthy, timeout=240)
    stage.fact("A", "published to serving", f"{time.monotonic() - began:.0f} s")
    if status["stable"]["digest"] != job["status"]["output"]["digest"]:
        raise StoryError(f"it serves another model: {status['stable']}")
    asking = client(stage)
    answer = stage.until("the Gateway answers", lambda: _answer(asking), timeout=30)
    stage.fact("A", "a completion through the Gateway", f"{status['url']} -> {answer!r}")
    stage.kubectl("-n", stage.namespace, "get", "modeldeployments", show=True)
    return bot


def _answer(asking: Client) -> str | None:
    try:
        return asking.ask("I was charged twice") or None
    except RuntimeError:
        return None


def b_canary(stage: Stage, bot: Watched) -> None:
    """Another model goes 20, 50, 100 while a client never pauses: nothing fails, every weight is what it says."""
    old = revision_of(bot.status)
    with client(stage) as traffic:
        bot.client = traffic
        stage.until("the client runs", lambda: traffic.good >= 10, timeout=60)
        bot.patch(model={"fineTuneJobRef": {"name": REFERENCE}})
        shares = [_share(stage, bot, old, weight) for weight in (20, 50)]
        status = bot.wait("it is promoted", lambda s: healthy(s) and revision_of(s) != old, timeout=240)
        after = traffic.good
        stage.until("requests go on", lambda: traffic.good >= after + 20, timeout=60)
        bot.wait("the old pods drained", lambda s: not s.get("draining") and not bot.pods(old), timeout=120)
    bot.client = None
    if traffic.failures:
        raise StoryError(f"{len(traffic.failures)} requests failed in a clean rollout: {traffic.kinds.most_common(3)}")
    if last(status)["outcome"] != "Promoted":
        raise StoryError(f"no promotion in status: {last(status)}")
    stage.fact("B", "a clean rollout under traffic", f"{traffic.good} requests, 0 failed")
    stage.fact("B", "share of the requests at each weight", ", ".join(shares))
    events = stage.kubectl("-n", stage.namespace, "get", "events", "--field-selector", f"involvedObject.name={BOT}")
    if "Promoted" not in events or "WeightChanged" not in events:
        raise StoryError(f"the rollout is not in the events:\n{events}")


def _share(stage: Stage, bot: Watched, old: str, weight: int) -> str:
    """The canary's share of what the engines themselves counted while the route had this weight."""
    status = bot.wait(
        f"weight {weight}",
        lambda s: (s.get("canary") or {}).get("weight") == weight and (s.get("rollout") or {}).get("stepSince"),
        timeout=240,
    )
    new = revision_of(status, "canary")
    before = bot.finished(old), bot.finished(new)
    bot.wait(
        f"enough requests at weight {weight}",
        lambda s: (
            sum(d := (bot.finished(old) - before[0], bot.finished(new) - before[1])) >= 60
            or ((s.get("canary") or {}).get("weight") != weight and bool(d))
        ),
        timeout=120,
    )
    stable, canary = bot.finished(old) - before[0], bot.finished(new) - before[1]
    share = 100 * canary / (stable + canary)
    if abs(share - weight) > 5:
        raise StoryError(f"at weight {weight} the canary answered {share:.1f} % of {stable + canary:.0f} requests")
    return f"{weight} -> {share:.1f} % of {stable + canary:.0f}"
