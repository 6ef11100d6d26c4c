"""Letter D: the operator dies in every stage of a rollout and in a rollback; the status is wiped; defaults change."""

from __future__ import annotations

import json
import time

from e2e.cluster import chart
from e2e.story.deployments import Watched, healthy, last, revision_of
from e2e.story.serving import client
from e2e.story.stage import SYSTEM, Stage, StoryError

_STAGES = ("Verifying", "Starting", "Checking", "Stepping", "Promoting")


def kill_operator(stage: Stage) -> None:
    """Every replica at once, without a goodbye."""
    stage.kubectl(
        *("-n", SYSTEM, "delete", "pods", "-l", "app.kubernetes.io/component=operator"),
        *("--grace-period=0", "--force", "--wait=false"),
        show=True,
    )


def d_operator_away(stage: Stage, bot: Watched) -> None:
    old = revision_of(bot.status)
    with client(stage, pause=0.2) as traffic:
        bot.client = traffic
        bot.patch(engine={"maxModelLen": 384})
        for name in _STAGES:
            status = bot.wait(
                f"the rollout is {name}",
                lambda s, name=name: (s.get("rollout") or {}).get("stage") == name or _past(s, name, old),  # type: ignore[misc]
                timeout=240,
            )
            if (status.get("rollout") or {}).get("stage") != name:
                continue  # this stage was over before anybody could look
            weights, pods = bot.weights(), {p["metadata"]["uid"] for p in bot.pods()}
            kill_operator(stage)
            _untouched(bot, weights, pods)
        status = bot.wait("it goes on and is promoted", lambda s: healthy(s) and revision_of(s) != old, timeout=300)
    bot.client = None
    if traffic.failures:
        raise StoryError(f"{len(traffic.failures)} requests failed: {traffic.kinds.most_common(3)}")
    stage.fact("D", "operator killed in every stage of a rollout", f"promoted; {traffic.good} requests, 0 failed")
    _in_a_rollback(stage, bot)
    _wiped(stage, bot)
    _new_default(stage, bot)


def _past(status: dict[str, object], name: str, old: str) -> bool:
    rollout = status.get("rollout")
    if isinstance(rollout, dict):
        return _STAGES.index(str(rollout["stage"])) > _STAGES.index(name)
    return healthy(status) and revision_of(status) != old


def _untouched(bot: Watched, weights: dict[str, int], pods: set[str]) -> None:
    """For as long as nobody leads, weights and pods stay."""
    until = time.monotonic() + 3
    while time.monotonic() < until:
        now = {p["metadata"]["uid"] for p in bot.pods()}
        if bot.weights() != weights or not pods <= now:
            raise StoryError(f"without an operator weights went from {weights} to {bot.weights()}")
        time.sleep(0.5)


def _in_a_rollback(stage: Stage, bot: Watched) -> None:
    stable = revision_of(bot.status)
    bot.patch(engine={"maxModelLen": 320})
    status = bot.wait("its first weight", lambda s: (s.get("canary") or {}).get("weight"), timeout=240)
    revision = revision_of(status, "canary")
    bot.annotate("abort", f"{revision}/{status['rollout']['step']}")
    kill_operator(stage)
    status = bot.wait(
        "the rollback is over", lambda s: not s.get("rollout") and last(s).get("outcome") == "Aborted", timeout=120
    )
    if bot.weights() != {stable: 100}:
        raise StoryError(f"after the abort the route says {bot.weights()}")
    stage.fact("D", "operator killed in a rollback", "taken back all the same")
    bot.patch(engine={"maxModelLen": 384})
    bot.wait("the spec is what is served", healthy, timeout=60)


def _wiped(stage: Stage, bot: Watched) -> None:
    before = bot.status
    pods = {p["metadata"]["uid"] for p in bot.pods(revision_of(before))}
    args = ("-n", stage.namespace, "patch", "modeldeployment", bot.name, "--subresource=status", "--type=json")
    stage.kubectl(*args, "-p", json.dumps([{"op": "remove", "path": "/status"}]), show=True)
    status = bot.wait("it is rebuilt", healthy, timeout=60)
    if (
        revision_of(status) != revision_of(before)
        or {p["metadata"]["uid"] for p in bot.pods(revision_of(status))} != pods
    ):
        raise StoryError(f"a wiped status started something: {status}")
    had, has = ({r["revision"] for r in s.get("rejected", [])} for s in (before, status))
    if has != had:
        notes = bot.route()["metadata"].get("annotations")
        raise StoryError(f"a wiped status went from rejections {had} to {has}; the route says {notes}")
    stage.fact("D", "status wiped by hand", "rebuilt, no rollout, rejections kept")


def _new_default(stage: Stage, bot: Watched) -> None:
    """The chart's next version brings another engine image: nothing that runs changes."""
    before = bot.status["stable"]
    repository, _, _ = stage.cluster.images["vllm"].rpartition(":")
    stage.narrator.command("helm upgrade finetune-operator … --set servingImage.tag=next")
    stage.cluster.helm(
        *("upgrade", chart.RELEASE, str(chart.CHART), "--namespace", chart.NAMESPACE, "--reuse-values"),
        *("--set", f"servingImage.repository={repository},servingImage.tag=next", "--wait", "--timeout", "120s"),
    )
    stage.kubectl("-n", SYSTEM, "rollout", "status", f"deployment/{chart.RELEASE}", "--timeout=60s")
    until = time.monotonic() + 15
    while time.monotonic() < until:
        status = bot.status
        if status.get("rollout") or status["stable"]["revision"] != before["revision"]:
            raise StoryError(f"a new default started a rollout: {status}")
        time.sleep(1)
    chart.install(stage.cluster)
    stage.fact("D", "chart upgraded with another default engine image", "no rollout")
