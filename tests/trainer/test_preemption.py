"""Stopping together, at every time of life, and at random moments: no hang, nothing lost, and the same weights at the
end as if nobody had interfered.

PREEMPTIONS and SEED set the number of random stops and their seed (`make nightly`).
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

import pytest

from tests.trainer import preemption, runs
from tests.trainer.preemption import PHASES, Make, hit

COUNT = int(os.environ.get("PREEMPTIONS", "10"))
SEED = int(os.environ.get("SEED", "1"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 60 * COUNT)]


@pytest.mark.parametrize(
    ("phase", "times", "code"),
    [
        ("fetch", 1, 86),
        ("import", 1, 86),
        ("load", 1, 86),
        ("micro", 1, 85),
        ("micro", 6, 85),
        ("evaluate", 1, 85),
        ("save", 1, 85),
        ("save", 2, 85),
    ],
    ids=["fetch", "import", "load", "first micro-batch", "accumulation", "evaluation", "save", "second save"],
)
def test_a_stop_in_each_phase(make: Make, phase: str, times: int, code: int) -> None:
    run = make(slow=PHASES)
    run.begin()
    run.wait_phase(phase, times)
    hit(run, [0], 0.0)
    assert run.end() == code
    assert run.trained() == (0 if code == 86 else run.saved())


@pytest.mark.parametrize(
    ("order", "skew"),
    [
        pytest.param([1], 0.0, marks=pytest.mark.nightly),
        pytest.param([1, 0], 0.0, marks=pytest.mark.nightly),
        ([1, 0], 0.4),
        pytest.param([1, 0], 1.0, marks=pytest.mark.nightly),
    ],
    ids=["one pod", "both at once", "0.4 s apart", "1 s apart"],
)
def test_two_pods_stop_at_one_step(make: Make, order: list[int], skew: float) -> None:
    run = make(nodes=2, slow={**PHASES, "micro": 0.1})
    run.begin()
    run.wait_phase("micro", 5)
    hit(run, order, skew)
    assert run.end() == 85
    assert run.saved() >= 1


def test_any_number_of_requests_is_one(make: Make) -> None:
    run = make(nodes=2, slow={**PHASES, "save": 1.0})
    first, second = run.begin().pods
    run.wait_phase("micro", 3)
    for _ in range(5):
        hit(run, [0, 1, 0], 0.0)
        assert first.get("/checkpoint", method="POST", body={"reason": "again", "stop": True})[0] == 202
    assert run.end() == 85
    stored = Path(run.config.run_uri.removeprefix("file://")) / "attempts/1/exit-0.json"
    assert stored.read_text().count("stop requested") == 1
    assert len([m for m in runs.manifests(run.config).values() if m.step == run.saved()]) == 1
    assert second.words().stop_requested_at is not None


@pytest.mark.parametrize("stop", [False, True])
def test_post_checkpoint(make: Make, stop: bool) -> None:
    run = make(nodes=2, slow={"micro": 0.1}, changes={"checkpoint": {"intervalSteps": 1000}})
    pods = run.begin().pods
    run.wait_phase("micro", 3)
    assert pods[1].get("/checkpoint", method="POST", body={"reason": "cordon", "stop": stop})[0] == 202
    assert run.end() == (85 if stop else 0)
    steps = sorted(m.step for m in runs.manifests(run.config).values())
    assert len(steps) == (1 if stop else 2), "without a stop: the asked checkpoint and the last one"


def test_pods_that_leave_one_after_the_other_end_without_an_alarm_in_the_log(make: Make) -> None:
    run = make(nodes=2, faults={"leave": 1.5}, changes={"training": {"maxSteps": 2}})
    pods = run.begin().pods
    assert [pod.wait(preemption.PATIENCE) for pod in pods] == [0, 0]
    for pod in pods:
        assert "Traceback" not in pod.log()
        assert "TCPStore" not in pod.log()


def test_storage_that_hangs_ends_at_the_deadline_and_leaves_the_older_checkpoint(make: Make) -> None:
    run = make(slow={"micro": 0.02, "save": [2, 3600.0]}, fields={"grace_seconds": 4})
    pod = run.begin().pods[0]
    run.wait_phase("save", 2)
    began = time.monotonic()
    hit(run, [0], 0.0)
    assert run.end(lost=None) == 86
    assert time.monotonic() - began < 4 + 30, "the deadline is the grace period's, whatever the machine adds"
    assert "within 4 s" in pod.words().message
    assert run.saved() == 3, "the first one, whole"


@pytest.mark.nightly
def test_random_stops(make: Make) -> None:
    rng = Random(SEED)
    share = {1: COUNT // 2, 2: COUNT - COUNT // 2}
    for nodes, count in share.items():
        whole = make(name=f"whole-{nodes}", nodes=nodes, slow=PHASES)
        began = time.monotonic()
        whole.begin()
        assert whole.end() == 0
        seconds, digest = time.monotonic() - began, whole.digest()
        seen = preemption.lives(
            lambda name, nodes=nodes: make(name=f"{name}-{nodes}", nodes=nodes, slow=PHASES),
            count,
            rng,
            seconds,
            digest,
        )
        print(f"{nodes} pod(s), undisturbed {seconds:.1f} s, {count} stops: exit codes {seen}")
        assert sum(seen.values()) >= count
