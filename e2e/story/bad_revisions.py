"""Letter C: revisions that must not get through, each for its own reason, none of them twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from e2e.story.deployments import Watched, condition_of, healthy, last, revision_of
from e2e.story.serving import client
from e2e.story.stage import SECRET, Job, Stage, StoryError
from e2e.story.training import REFERENCE

WARNED = "warned"
_WORKERS = 3
_PACE = "pace:20"
_LONG = 22
"""Tokens of an answer: 0.44 s at this pace, 0.57 s when it is 30 % slower; 0.5 s is a bound of vLLM's buckets."""
_CHECKS = 44
"""Requests of the checker: the published reference's, one prompt, 32 questions; the faults begin with clients'."""

_FAILING = (
    (
        "crashes after 20 requests",
        f"crash-after:{_CHECKS + 20}",
        ("EngineRestarted", "EngineNotReady", "EngineUnreachable", "SyntheticRequestFailed"),
    ),
    ("hangs after 20 requests", f"hang-after:{_CHECKS + 20}", ("EngineStalled", "SyntheticRequestFailed")),
)


def publish_warned(stage: Stage) -> None:
    """A job that hardly trained and publishes in spite of its gate: the model that nobody should get."""
    job = stage.example("03-gate-fails.yaml", name=WARNED)
    job["spec"]["evaluation"]["onGateFailure"] = "Warn"
    stage.apply(job)


def c_bad_revisions(stage: Stage, bot: Watched, *, brief: bool = False) -> None:
    """`brief`: one that fails while it serves, and one that never gets as far."""
    stable = revision_of(bot.status)
    faulty = stage.cluster.images["vllm-faulty"]
    engine = bot.object["spec"]["engine"]

    def fault(text: str) -> dict[str, Any]:
        return {"engine": {**engine, "image": faulty, "env": [{"name": "FAULT", "value": text}]}}

    with client(stage, workers=_WORKERS, pause=0.05) as traffic:
        bot.client = traffic
        stage.until("the client runs", lambda: traffic.good >= 10, timeout=60)
        for name, fault_text, reasons in _FAILING[:1] if brief else _FAILING:
            _refused(stage, bot, stable, name, reasons, **fault(fault_text))
    bot.client = None
    rollout = bot.object["spec"]["rollout"]
    served = stable
    if not brief:
        served = _slower(stage, bot, fault)
        _wrong_answers(stage, bot, served)
        _gate_failed(stage, bot, served)
    _tampered(stage, bot, served)
    bot.patch(
        model={"uri": None, "secretRef": None, "fineTuneJobRef": {"name": REFERENCE}, "requireGate": True},
        engine={"image": None, "env": None, "maxModelLen": engine["maxModelLen"]},
    )
    bot.wait("it is as before", lambda s: healthy(s) and revision_of(s) == stable, timeout=120)
    bot.patch(rollout=rollout)


def _slower(stage: Stage, bot: Watched, fault: Callable[[str], dict[str, Any]]) -> str:
    """On a busy machine a tiny model's latencies are the machine's. Engines that take 20 ms for each token, as a large
    model's do, make them the model's own: first stable gets that rhythm, then a candidate that is 30 % slower."""
    before = revision_of(bot.status)
    bot.patch(**fault(_PACE), rollout={"steps": []})
    paced = revision_of(bot.wait("stable is paced", lambda s: healthy(s) and revision_of(s) != before, timeout=180))
    with client(stage, workers=_WORKERS, pause=0, max_tokens=_LONG, to_the_end=True) as traffic:
        bot.client = traffic
        change = fault(f"{_PACE},slow:1.3") | {"rollout": _patient(bot)}
        _refused(stage, bot, paced, "answers 30 % slower", ("AnalysisFailed",), **change)
    bot.client = None
    bot.patch(rollout={"steps": []})
    return paced


def _patient(bot: Watched) -> dict[str, Any]:
    """A slow-down is seen in a hundred requests, not in a dozen: half of them go to the candidate."""
    return {
        "steps": [{"weight": 50, "pause": "10s"}],
        "analysis": {
            **bot.object["spec"]["rollout"]["analysis"],
            "minSamples": 100,
            "metrics": [{"name": "E2ELatency", "maxRegressionPercent": 10}],
        },
    }


def _refused(
    stage: Stage, bot: Watched, stable: str, name: str, reasons: tuple[str, ...], **change: dict[str, Any]
) -> Job:
    """Ask for it, wait for the rollback; stable has every request again, and it is not tried a second time."""
    before = last(bot.status)
    bot.patch(**change)
    seen: dict[str, float] = {}

    def over(status: Job) -> bool:
        weight = int((status.get("canary") or {}).get("weight") or 0)
        if weight and "weight" not in seen:
            seen["weight"] = time.monotonic()
        return last(status) != before and not status.get("rollout")

    status = bot.wait(f"the revision that {name} is taken back", over, timeout=420)
    entry = last(status)
    if entry["outcome"] != "RolledBack" or entry["reason"] not in reasons:
        raise StoryError(f"a revision that {name}: {entry}")
    if bot.weights() != {stable: 100}:
        raise StoryError(f"after the rollback the route says {bot.weights()}")
    took = f", {time.monotonic() - seen['weight']:.0f} s after its first weight" if "weight" in seen else ", no weight"
    stage.fact("C", f"a revision that {name}", f"{entry['reason']}{took}: {entry['message']}")
    _not_again(bot, stable)
    return status


def _not_again(bot: Watched, stable: str) -> None:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        status = bot.status
        if status.get("rollout") or revision_of(status) != stable:
            raise StoryError(f"it was tried again: {status.get('rollout')}")
        time.sleep(0.5)
    if condition_of(bot.status, "Stalled")["status"] != "True":
        raise StoryError("Stalled does not say that Git asks for something that was rejected")


def _wrong_answers(stage: Stage, bot: Watched, stable: str) -> None:
    stage.wait(WARNED, "it is published", lambda j: j["status"].get("phase") == "Succeeded", timeout=300)
    _refused(
        stage,
        bot,
        stable,
        "loads but gives wrong answers",
        ("QualityFailed",),
        engine={"image": None, "env": None},
        model={"fineTuneJobRef": {"name": WARNED}, "requireGate": False},
    )


def _gate_failed(stage: Stage, bot: Watched, stable: str) -> None:
    change = {"model": {"requireGate": True}, "engine": {"maxModelLen": 448}}
    status = _refused(stage, bot, stable, "did not pass its gate", ("GateFailed",), **change)
    _no_pods(bot, stable, status)


def _tampered(stage: Stage, bot: Watched, stable: str) -> None:
    """Somebody edits the manifest of a published model: one file's digest is another one now."""
    source = "/".join(stage.get(REFERENCE)["status"]["output"]["uri"].split("/")[3:])
    copy = "demo/tampered"
    for entry in stage.store.child(source).list():
        stage.store.put_bytes(f"{copy}/{entry.path}", stage.store.get_bytes(f"{source}/{entry.path}"))
    manifest = json.loads(stage.store.get_bytes(f"{copy}/MANIFEST.json"))
    manifest["files"][0]["digest"] = "sha256:" + "0" * 64
    stage.store.put_bytes(f"{copy}/MANIFEST.json", json.dumps(manifest).encode())
    secret = {"name": SECRET}
    change = {"model": {"fineTuneJobRef": None, "uri": f"s3://{stage.cluster.s3.bucket}/{copy}", "secretRef": secret}}
    status = _refused(stage, bot, stable, "was changed after publication", ("ManifestTampered",), **change)
    _no_pods(bot, stable, status)


def _no_pods(bot: Watched, stable: str, status: Job) -> None:
    rejected = last(status)["revision"]
    if rejected != stable and bot.pods(rejected):
        raise StoryError("a model that failed verification got engine pods")
