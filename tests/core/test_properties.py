"""What holds of `plan()` for every world hypothesis can think of, possible or nearly so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune_api.runkey import publish_digest
from finetune_api.status import FineTuneJobStatus
from finetune_operator.core.names import GANG_SERVICE
from finetune_operator.core.objects import name_of, uid_of
from finetune_operator.core.plan import parse_spec
from finetune_operator.core.types import Observed, Plan
from tests.core.build import (
    attempt,
    batch_job,
    checkpoint,
    decide,
    ended,
    ftj,
    node,
    pod,
    preflight_pod,
    progress,
    report,
    running,
    seen,
    status,
    ts,
    words,
)

CODES = [None, 0, 1, 64, 66, 70, 71, 72, 73, 74, 75, 77, 85, 86, 137, 143]
OUTCOMES = ["Preempted", "NodeLost", "Error", "OutOfMemory", "Suspended", "Deleted", "StartTimeout", "Hang"]
specs = st.fixed_dictionaries(
    {},
    optional={
        "suspend": st.booleans(),
        "retry": st.fixed_dictionaries(
            {"maxRestarts": st.integers(0, 3), "noProgressLimit": st.integers(1, 3)},
            optional={"activeDeadline": st.sampled_from(["1s", "1m", "10h"])},
        ),
        "scheduling": st.just({"startTimeout": "1m"}),
        "training": st.just({"seed": 7}),
        "retainPods": st.just("30s"),
    },
)


@st.composite
def pods_of(draw: st.DrawFn, index: int) -> list[dict[str, Any]]:
    made = []
    for number in range(draw(st.integers(0, 2))):
        code = draw(st.sampled_from(CODES))
        made.append(
            pod(
                number,
                attempt=index,
                code=code,
                phase=draw(st.sampled_from(["Running", "Pending"])) if code is None else "Failed",
                deleting=draw(st.booleans()),
                disrupted=draw(st.sampled_from([None, None, "EvictionByEvictionAPI"])),
                words=draw(
                    st.sampled_from(
                        [None, words(number, code or 0, attempt=index, step=30, checkpoint=checkpoint(25, index))]
                    )
                ),
                reason=draw(st.sampled_from(["Error", "OOMKilled"])),
            )
        )
    return made


@st.composite
def worlds(draw: st.DrawFn) -> Observed:
    spec = draw(specs)
    stage = draw(st.sampled_from(["new", "preflight", "resolved", "attempt", "publish", "done"]))
    jobs: list[dict[str, Any]] = []
    pods: list[dict[str, Any]] = []
    known: dict[str, Any] = {}
    sample = None
    if stage == "preflight":
        made = draw(
            st.sampled_from(
                [None, report(), report(69, "WaitingForSecret"), report(66, "InvalidData"), report(70, "X")]
            )
        )
        pods.append(preflight_pod(made, generation=draw(st.integers(1, 2))))
    elif stage == "resolved":
        known = status(spec=draw(st.sampled_from([spec, {}])), phase="Queued")
    elif stage in ("attempt", "publish", "done"):
        past = [
            ended(
                n + 1,
                draw(st.sampled_from(OUTCOMES)),
                committedStep=draw(st.integers(0, 30)),
                startStep=draw(st.integers(0, 20)),
            )
            for n in range(draw(st.integers(0, 3)))
        ]
        index = len(past) + 1
        current = draw(
            st.sampled_from(
                [
                    attempt(index),
                    running(index),
                    running(index, stopping=draw(st.sampled_from(["Suspended", "NodeLost", "StartTimeout"]))),
                ]
            )
        )
        if stage != "attempt":
            current = ended(index, "Succeeded")
        known = status(*past, current, restarts=draw(st.integers(0, 4)))
        if stage == "attempt":
            if draw(st.booleans()):
                conditions = draw(st.sampled_from([(), ("FailureTarget",), ("FailureTarget", "Failed"), ("Complete",)]))
                extra = {"deletionTimestamp": ts(90)} if draw(st.booleans()) else {}
                jobs.append(batch_job(index, *conditions, **extra))
            pods = draw(pods_of(index))
            if draw(st.booleans()):
                sample = progress(draw(st.integers(0, 100)), attempt=index, start_step=draw(st.integers(0, 30)))
        else:
            known["phase"] = "Publishing" if stage == "publish" else draw(st.sampled_from(["Succeeded", "Failed"]))
            known["publish"] = {
                "index": 1,
                "specDigest": draw(st.sampled_from(["other", publish_digest(parse_spec(ftj(spec)))])),
                "job": "bot-publish-1",
                "createdAt": ts(100),
                **draw(
                    st.sampled_from(
                        [
                            {},
                            {"finishedAt": ts(110), "outcome": "GateFailed", "exitCode": 76},
                            {"finishedAt": ts(110), "outcome": "Error", "failures": 1},
                        ]
                    )
                ),
            }
    nodes = [
        node(
            f"node-{n}",
            ready=draw(st.sampled_from(["True", "Unknown"])),
            taint=draw(st.sampled_from([None, "karpenter.sh/disrupted"])),
        )
        for n in (1, 2)
    ]
    gone = [p for p in pods if draw(st.booleans())]
    return replace(
        seen(
            ftj(spec, status=known, generation=draw(st.integers(1, 2))),
            jobs=tuple(jobs),
            pods=tuple(pods),
            nodes=tuple(nodes),
            sample=sample,
            fresh=draw(st.booleans()),
        ),
        gone_pods=frozenset(uid_of(p) for p in gone),
    )


def settle(world: Observed, seconds: float) -> tuple[Observed, Plan]:
    """Carry out status writes only, until a plan writes none."""
    for _ in range(8):
        made = decide(world, seconds)
        if made.need_fresh:
            world = replace(world, fresh=True)
            continue
        if made.status is None:
            return world, made
        world = replace(world, job={**world.job, "status": made.status})
    raise AssertionError(f"no fixpoint: {made.status}")


wide = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@wide
@given(worlds(), st.floats(50, 5000))
def test_total_deterministic_and_at_rest_after_its_own_writes(world: Observed, seconds: float) -> None:
    assert decide(world, seconds) == decide(world, seconds)
    rested, made = settle(world, seconds)
    assert decide(rested, seconds) == made


@wide
@given(worlds(), st.floats(50, 5000))
def test_an_intent_is_written_alone(world: Observed, seconds: float) -> None:
    made = decide(world, seconds)
    if made.status is None:
        return
    before = len((world.job["status"] or {}).get("attempts", []))
    if len(made.status["attempts"]) != before:
        assert not made.creates
        assert not made.deletes
        assert not made.patches


@wide
@given(worlds(), st.floats(50, 5000))
def test_at_most_one_attempt_is_open_and_numbers_rise(world: Observed, seconds: float) -> None:
    rested, _ = settle(world, seconds)
    attempts = FineTuneJobStatus.model_validate(rested.job["status"]).attempts
    assert sum(a.finished_at is None for a in attempts) <= 1
    assert all(a.finished_at is not None for a in attempts[:-1])
    numbers = [a.index for a in attempts]
    assert numbers == sorted(set(numbers))


@wide
@given(worlds(), st.floats(50, 5000))
def test_only_what_is_ours_is_deleted_and_only_our_names_are_made(world: Observed, seconds: float) -> None:
    _, made = settle(world, seconds)
    seen_objects = {(name_of(o), uid_of(o)) for o in (*world.jobs, *world.pods)}
    for delete in made.deletes:
        if delete.resource.kind == "Secret":
            assert delete.name.startswith("bot-")
        else:
            assert (delete.name, delete.uid) in seen_objects
    for body in made.creates:
        name = body["metadata"]["name"]
        assert name == GANG_SERVICE or name.startswith("bot-")
        assert any(ref["uid"] == "uid-bot" for ref in body["metadata"]["ownerReferences"])


@wide
@given(worlds(), st.floats(50, 5000))
def test_success_is_never_left(world: Observed, seconds: float) -> None:
    if (world.job["status"] or {}).get("phase") != "Succeeded":
        return
    rested, made = settle(world, seconds)
    assert rested.job["status"]["phase"] == "Succeeded"
    assert not made.creates


@st.composite
def healthy(draw: st.DrawFn) -> Observed:
    """All pods run on reachable nodes, and nobody asked for an end."""
    past = [
        ended(n + 1, draw(st.sampled_from(OUTCOMES)), committedStep=draw(st.integers(0, 30)))
        for n in range(draw(st.integers(0, 3)))
    ]
    index = len(past) + 1
    sample = draw(st.sampled_from([None, progress(draw(st.integers(0, 100)), attempt=index)]))
    return seen(
        ftj(
            status=status(
                *past, draw(st.sampled_from([attempt(index), running(index)])), restarts=draw(st.integers(0, 9))
            )
        ),
        jobs=(batch_job(index),),
        pods=(pod(0, attempt=index), pod(1, attempt=index)),
        nodes=draw(
            st.sampled_from([(), (node("node-1"), node("node-2", cordoned=True)), (node("node-1", ready="False"),)])
        ),
        sample=sample,
        fresh=draw(st.booleans()),
    )


@wide
@given(healthy(), st.floats(50, 1_000_000))
def test_a_healthy_gang_is_never_ended(world: Observed, seconds: float) -> None:
    rested, made = settle(world, seconds)
    assert not made.deletes
    assert "stopping" not in rested.job["status"]["attempts"][-1]
    assert made.probe is None or made.probe.stop is None
