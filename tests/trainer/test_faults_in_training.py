"""Real gangs whose numbers, memory or speed go wrong: what they do, what they say, and what the next attempt does."""

from __future__ import annotations

import os
import signal

import pytest

from tests.cells import cells
from tests.trainer import runs
from tests.trainer.preemption import STEPS, Make, hit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_by_default_nan_ends_the_run_and_the_checkpoint_before_it_stands(make: Make) -> None:
    run = make(nodes=2, faults={"nan": [5]})
    pods = run.begin().pods
    assert [pod.wait() for pod in pods] == [72, 72]
    assert "diverged at step 5: loss nan" in pods[0].words().message
    assert "onNaN: SkipBatch" in pods[0].words().message
    assert run.saved() == 3


@pytest.mark.parametrize("steps", cells([[5, 6, 11], [1, 2, 9]], [[1, 2, 9]]), ids=["later", "from the first on"])
def test_skipped_batches_are_counted_and_a_resumed_run_skips_alike(make: Make, steps: list[int]) -> None:
    changes = {"training": {"onNaN": "SkipBatch"}, "checkpoint": {"intervalSteps": 2}}
    faults = {"nan": steps}
    whole = make(name="whole", nodes=2, changes=changes, faults=faults)
    whole.begin()
    assert whole.end() == 0
    lines = whole.metrics()
    assert [line["step"] for line in lines if line.get("skipped")] == steps
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert "batch left out" in whole.gang.pods[0].log()

    parts = make(name="parts", nodes=2, changes=changes, faults=faults, slow={"micro": 0.05})
    parts.begin()
    parts.wait_phase("micro", 2 * 5)
    hit(parts, [1], 0.0)
    assert parts.end() == 85
    pod = parts.begin().pods[0]
    pod.wait_step(STEPS - 1)
    assert pod.progress()["skippedSteps"] == len(steps)
    assert parts.end() == 0
    assert parts.digest() == whole.digest()


def test_memory_that_runs_out_is_named_with_the_micro_batch_and_half_of_it_learns_the_same(make: Make) -> None:
    run = make(faults={"memory": [4]})
    pod = run.begin().pods[0]
    assert pod.wait() == 71, pod.log()
    words = pod.words()
    assert words.micro_batch_size == 2
    assert "(micro-batch 2)" in words.message
    assert "lower training.microBatchSize" in words.message
    assert run.saved() == 3
    run.faults, run.fields = {}, {"micro_batch_size": words.micro_batch_size // 2}
    run.begin()
    assert run.end() == 0
    assert run.gang.pods[0].words().micro_batch_size == 1
    assert run.metrics()[0]["step"] == 4


def test_a_slow_rank_is_named(make: Make) -> None:
    run = make(nodes=2, faults={"rank": 1, "seconds": 0.15}, changes={"training": {"maxSteps": 1000}})
    pod = run.begin().pods[0]
    found = runs.wait_until(lambda: pod.progress().get("slowestRank"), "the slow rank", 120)
    assert found == 1
    assert pod.progress()["slowestRatio"] > 1.5
    hit(run, [0], 0.0)
    assert run.end() == 85
    assert "everybody waits for one rank" in pod.log()


@pytest.mark.nightly
def test_auto_interval_is_told_and_follows_what_a_checkpoint_costs(make: Make) -> None:
    changes = {"checkpoint": {"interval": "Auto", "intervalSteps": 4}, "training": {"maxSteps": 12}}
    run = make(changes=changes, slow={"micro": 0.05, "evaluate": 0.2, "save": 0.2})
    pod = run.begin().pods[0]
    pod.wait_step(1)
    assert pod.progress()["checkpointIntervalSeconds"] == 300
    pod.wait_step(6)
    told = pod.progress()["checkpointIntervalSeconds"]
    # √(2 · 0.2 s · 1 day) is 186 s; the machine adds to the 0.2 s.
    assert 150 < told != 300
    assert pod.wait() == 0


def test_a_lost_peer_costs_only_the_unfinished_step(make: Make) -> None:
    run = make(nodes=2, slow={"micro": 0.1}, changes={"checkpoint": {"intervalSteps": 1000}})
    pods = run.begin().pods
    run.wait_phase("micro", 9)
    os.kill(pods[1].ranks()[1], signal.SIGKILL)
    codes = [pod.wait() for pod in pods]
    assert codes == [70, 137], pods[0].log()
    assert run.saved() == run.trained() > 0, pods[0].log()


def test_a_stop_while_a_rank_hangs_saves_the_last_finished_step_before_the_deadline(make: Make) -> None:
    run = make(
        nodes=2,
        slow={"micro": 0.1},
        changes={"checkpoint": {"intervalSteps": 1000}},
        fields={"grace_seconds": 12},
    )
    pods = run.begin().pods
    run.wait_phase("micro", 9)
    os.kill(pods[1].ranks()[1], signal.SIGSTOP)
    hit(run, [0, 1], 0.0)
    assert [pod.wait() for pod in pods] == [85, 86], pods[0].log()
    assert "saving the last finished step" in pods[0].log()
    assert run.saved() == run.trained() == pods[0].words().step > 0
