"""Real launchers, one process per pod, on loopback: stops, kills, fences, hangs, and what the pods say at their end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune_api.manifests import Fence
from finetune_api.runconfig import RunConfig
from finetune_trainer.checkpoint.fences import put_fence
from finetune_trainer.common.stores import open_run
from tests.trainer import runs, tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LONG = {"training": {"maxSteps": 100_000}}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tiny.Tiny:
    return tiny.build(tmp_path_factory.mktemp("tiny"))


class Site:
    """One run directory and the pods that were started on it."""

    def __init__(self, folder: Path, small: tiny.Tiny) -> None:
        self.folder, self.small = folder, small
        self.gangs: list[runs.Gang] = []

    def config(self, attempt: int = 1, changes: dict[str, Any] | None = None, **fields: Any) -> RunConfig:
        document = runs.spec(self.small.model, self.small.data, **(changes or {}))
        return runs.config(self.folder / "store", document, attempt=attempt, **fields)

    def start(self, config: RunConfig, nodes: int = 1) -> runs.Gang:
        gang = runs.start(self.folder, config, nodes=nodes)
        self.gangs.append(gang)
        return gang

    def fence(self, config: RunConfig, attempt: int) -> Fence:
        path = Path(config.run_uri.removeprefix("file://")) / "fence" / str(attempt)
        return Fence.model_validate_json(path.read_bytes())

    def stored_words(self, config: RunConfig, index: int) -> dict[str, Any]:
        path = Path(config.run_uri.removeprefix("file://")) / f"attempts/{config.attempt}/exit-{index}.json"
        words: dict[str, Any] = json.loads(path.read_text())
        return words


@pytest.fixture
def site(tmp_path: Path, small: tiny.Tiny) -> Iterator[Site]:
    site = Site(tmp_path, small)
    yield site
    for gang in site.gangs:
        gang.kill()


def after(seconds: float, act: Callable[[], None]) -> None:
    """Skew between two signals is the point here, so the time between them is real."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.01)
    act()


@pytest.mark.nightly
def test_two_pods_stop_at_one_step_and_go_on_as_one(site: Site) -> None:
    first = site.config(1, LONG)
    gang = site.start(first, nodes=2)
    gang.pods[0].wait_step(3)
    gang.pods[1].terminate()
    after(0.4, gang.pods[0].terminate)
    gang.pods[1].terminate()
    assert gang.wait() == [85, 85], gang.pods[0].log()
    (name,) = runs.manifests(first)
    manifest = runs.manifests(first)[name]
    words = [pod.words() for pod in gang.pods]
    assert {word.step for word in words} == {manifest.step}
    assert manifest.step >= 3
    assert words[0].checkpoint is not None
    assert words[0].checkpoint.digest == manifest.trainable_digest
    assert all(word.stop_requested_at for word in words)
    assert site.stored_words(first, 1)["exitCode"] == 85
    assert "stopping" in site.stored_words(first, 0)["logTail"]

    # Attempt 2 is one pod of two ranks: a checkpoint without a stop over HTTP, then a signal that one rank hears.
    second = site.config(2, LONG, require_checkpoint=True, processes_per_node=2)
    gang = site.start(second)
    pod = gang.pods[0]
    pod.wait_step(manifest.step + 2)
    assert site.fence(second, 2).resume_step == manifest.step
    assert pod.get("/progress", token="wrong")[0] == 401
    assert pod.get("/checkpoint", method="POST", body={"reason": "cordon"})[0] == 202
    saved = runs.wait_until(lambda: pod.progress().get("checkpoint"), "a checkpoint without a stop")
    pod.wait_step(saved["step"] + 2)
    os.kill(pod.ranks()[1], signal.SIGTERM)
    assert gang.wait() == [85], pod.log()
    assert pod.words().start_step == manifest.step
    assert pod.words().step > saved["step"] > manifest.step
    assert f"step-{pod.words().step}-a2" in runs.manifests(second)


def test_killed_rank_is_named_and_the_next_attempt_skips_a_broken_checkpoint(site: Site) -> None:
    every_two = {"training": {"maxSteps": 100_000}, "checkpoint": {"intervalSteps": 2, "keep": {"last": 3}}}
    first = site.config(1, every_two)
    gang = site.start(first, nodes=2)
    runs.wait_until(lambda: len(runs.manifests(first)) >= 2 or gang.pods[0].process.poll() is not None, "checkpoints")
    os.kill(gang.pods[1].ranks()[1], signal.SIGKILL)
    codes = gang.wait()
    assert codes == [70, 137], gang.pods[0].log()
    survivor, victim = (pod.words() for pod in gang.pods)
    assert (survivor.reason, survivor.first_failing_rank) == ("PeerLost", None)
    assert victim.first_failing_rank == 1
    assert "SIGKILL" in victim.message

    by_step = sorted(runs.manifests(first).items(), key=lambda item: item[1].step)
    (_, older), (newest, _) = by_step[-2:]
    damaged = Path(first.checkpoints_uri.removeprefix("file://")) / newest / "optimizer.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(bytes(content))
    steps = by_step[-1][1].step + 4
    second = site.config(2, {**every_two, "training": {"maxSteps": steps}}, require_checkpoint=True)
    gang = site.start(second)
    assert gang.wait() == [0], gang.pods[0].log()
    assert site.fence(second, 2).resume_step == older.step
    assert max(m.step for m in runs.manifests(second).values()) == steps
    assert (damaged.parent / "QUARANTINED.json").exists() or not damaged.parent.exists()


@pytest.mark.nightly
def test_a_zombie_is_refused(site: Site) -> None:
    config = site.config(1, LONG)
    gang = site.start(config)
    pod = gang.pods[0]
    pod.wait_step(2)
    put_fence(open_run(config), 2, resume_step=0, resume_attempt=0)
    assert pod.get("/checkpoint", method="POST", body={"reason": "cordon"})[0] == 202
    assert gang.wait() == [86]
    assert "fenced by attempt 2" in pod.words().message
    assert runs.manifests(config) == {}


@pytest.mark.nightly
def test_storage_that_stays_away_until_the_deadline(site: Site) -> None:
    config = site.config(1, LONG, grace_seconds=4)
    gang = site.start(config)
    pod = gang.pods[0]
    pod.wait_step(2)
    assert pod.get("/checkpoint", method="POST", body={"reason": "cordon"})[0] == 202
    runs.wait_until(lambda: runs.manifests(config), "the older checkpoint")
    older = runs.manifests(config)
    checkpoints = Path(config.checkpoints_uri.removeprefix("file://"))
    hidden = checkpoints.with_name("hidden")
    checkpoints.rename(hidden)
    checkpoints.write_text("in the way")
    pod.terminate()
    assert gang.wait() == [86]
    assert "within 4 s" in pod.words().message
    checkpoints.unlink()
    hidden.rename(checkpoints)
    assert runs.manifests(config) == older


def test_a_hang_is_found_and_the_silent_rank_named(site: Site) -> None:
    config = site.config(1, {**LONG, "retry": {"hangTimeout": "3s"}}, processes_per_node=2)
    gang = site.start(config)
    pod = gang.pods[0]
    pod.wait_step(3)
    os.kill(pod.ranks()[1], signal.SIGSTOP)
    assert gang.wait() == [77], pod.log()
    words = pod.words()
    assert words.first_failing_rank == 1
    assert "rank 1" in words.message
    assert "most recent call first" in site.stored_words(config, 0)["logTail"], "the stacks of the ranks"


@pytest.mark.nightly
def test_divergence_ends_with_72_and_says_what_to_do(site: Site) -> None:
    config = site.config(
        1,
        {"training": {"maxSteps": 100, "learningRate": "1e30"}, "method": {"type": "FullFineTune", "lora": None}},
    )
    gang = site.start(config)
    assert gang.wait() == [72], gang.pods[0].log()
    words = gang.pods[0].words()
    assert "lower training.learningRate" in words.message
    assert words.traceback is not None
    assert "RunError" in words.traceback


@pytest.mark.parametrize(
    ("fields", "fences", "code", "words"),
    [
        ({"require_checkpoint": True}, [], 73, "none below"),
        ({"model_revision": "sha256:other"}, [], 66, "changed since preflight"),
        ({"data_fingerprint": "sha256:other"}, [], 66, "changed since preflight"),
        ({}, [2], 86, "fenced by attempt 2"),
        ({}, [1], 86, "already begun"),
        ({"attempt": 0}, [], 64, "numbered from 1"),
        ({"runs_secret": "absent"}, [], 74, "Secret 'absent'"),
    ],
)
def test_what_ends_before_any_rank_starts(
    site: Site, fields: dict[str, Any], fences: list[int], code: int, words: str
) -> None:
    config = site.config(**{"attempt": 1, **fields})
    for attempt in fences:
        put_fence(open_run(config), attempt, resume_step=0, resume_attempt=0)
    gang = site.start(config)
    assert gang.wait() == [code], gang.pods[0].log()
    assert words in gang.pods[0].words().message
    assert "Traceback" not in gang.pods[0].log()


def test_a_stop_while_waiting_for_peers_ends_both_pods_at_once(site: Site) -> None:
    """Pod 1 waits for pod 0 that never comes; its launcher alone answers SIGTERM."""
    config = site.config(1, LONG)
    gang = site.start(config, nodes=2)
    gang.pods[0].kill()
    runs.wait_until(lambda: gang.pods[1].progress().get("stage") == "Starting", "stage Starting")
    gang.pods[1].terminate()
    assert gang.pods[1].wait() == 86
    assert "before training had begun" in gang.pods[1].words().message
