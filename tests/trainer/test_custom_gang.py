"""Custom scripts under the real launcher: what they say, how they are stopped, how they end."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_api.exitcodes import ExitCode
from finetune_api.runconfig import RunConfig
from finetune_trainer.custom.publish import publish_custom
from tests.trainer import custom, runs, tiny

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "custom-trl.yaml"
LOOP = """\
import json, os, sys, time
from pathlib import Path
from finetune_trainer.integrations.script import Script, resume_from
me, steps, done = Script.here(), int(sys.argv[1]), 0
while len(sys.argv) > 2 and not Path(sys.argv[2]).exists():
    time.sleep(0.02)
found = resume_from()
step = int((Path(found) / "state.json").read_text()) if found else 0
me.begin(step=step, total_steps=steps)
while step < steps:
    step += 1
    time.sleep(0.05)
    me.report(step=step, loss=1.0 / step)
    stop, saves = me.asked()
    if stop or saves > done:
        done = saves
        folder = Path(os.environ["FINETUNE_CHECKPOINT_DIR"]) / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(str(step))
        me.saved(step, folder)
    if stop:
        me.stopped(step)
out = Path(os.environ["FINETUNE_OUTPUT_DIR"])
(out / "model.safetensors").write_bytes(b"x")
(out / "config.json").write_text("{}")
(out / "training_args.bin").write_bytes(b"pickle")
(out / "metrics.json").write_text(json.dumps({"loss": {"final": 1 / step, "base": 1.0, "samples": step}}))
"""


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    yield
    custom.sweep()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tiny.Tiny:
    return tiny.build(tmp_path_factory.mktemp("tiny"), rows=80)


def configured(folder: Path, data: tiny.Tiny, command: list[str], ranks: int = 1, **changes: Any) -> RunConfig:
    attempt = changes.pop("attempt", 1)
    document = custom.spec(data.model, data.data, command, **changes)
    return runs.config(folder / "runs", document, attempt=attempt, processes_per_node=ranks, grace_seconds=60)


def inline(code: str, *args: str) -> list[str]:
    return [sys.executable, "-u", "-c", code, *args]


def run(folder: Path, wanted: RunConfig) -> custom.Custom:
    pod = custom.start(folder, wanted)[0]
    pod.wait()
    return pod


@pytest.mark.slow
def test_one_pod_to_the_published_model(tmp_path: Path, data: tiny.Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = {"gate": [{"metric": "loss", "max": "0.1", "relativeTo": "Base"}]}
    wanted = configured(tmp_path, data, inline(LOOP, "60"), evaluation=gate)
    pod = custom.start(tmp_path, wanted)[0]
    pod.wait_step(5)
    assert pod.get("/progress", token="wrong")[0] == 401
    assert pod.get("/checkpoint", method="POST", body={"reason": 3})[0] == 400
    assert pod.get("/checkpoint", method="POST", body={"reason": "NodeDrained", "stop": True})[0] == 202
    assert pod.wait() == ExitCode.STOPPED, pod.log()
    words = pod.words()
    assert words.checkpoint is not None
    assert words.checkpoint.step == words.step >= 5
    assert list(runs.manifests(wanted)) == [f"step-{words.step}-a1"]
    again = wanted.model_copy(update={"attempt": 2, "require_checkpoint": True})
    pod = run(tmp_path, again)
    assert pod.process.returncode == 0, pod.log()
    last = pod.words()
    assert (last.start_step, last.step) == (words.step, 60)
    exits = Path(wanted.run_uri.removeprefix("file://")) / "attempts"
    assert json.loads((exits / "2" / "exit-0.json").read_text())["logTail"]

    monkeypatch.setenv("FINETUNE_SCRATCH_DIR", str(tmp_path / "publish"))
    monkeypatch.setenv("FINETUNE_TERMINATION_LOG", str(tmp_path / "published"))
    assert publish_custom(again) == 0
    report = json.loads((tmp_path / "published").read_text())
    assert report["gatePassed"] is True
    assert "training_args.bin" in report["message"]
    manifest = json.loads((Path(again.output_uri.removeprefix("file://")) / "MANIFEST.json").read_text())
    assert manifest["kind"] == "Full"
    assert {f["path"] for f in manifest["files"]} == {"model.safetensors", "config.json", "metrics.json"}
    assert manifest["lineage"]["checkpointStep"] == 60
    assert publish_custom(again) == 0
    assert json.loads((tmp_path / "published").read_text())["reason"] == "AlreadyPublished"


ENDINGS = [
    (
        "import os\nprint('no')\nraise ValueError('the column text is missing')",
        70,
        "ValueError: the column text is missing",
    ),
    ("raise SystemExit(72)", 72, "loss or gradients are no finite numbers"),
    ("raise MemoryError('CUDA out of memory. Tried to allocate 2 GiB')", 71, "lower the batch size"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "killed by SIGKILL"),
    ("pass", 64, "wrote nothing to $FINETUNE_OUTPUT_DIR"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("code", "expected", "words"), ENDINGS, ids=[str(e[1]) for e in ENDINGS])
def test_endings(tmp_path: Path, data: tiny.Tiny, code: str, expected: int, words: str) -> None:
    pod = run(tmp_path, configured(tmp_path, data, inline(code)))
    assert pod.process.returncode == expected, pod.log()
    found = pod.words()
    assert found.exit_code == expected
    assert words in found.message


@pytest.mark.slow
def test_after_a_kill_it_goes_on_from_the_last_checkpoint_that_counts(tmp_path: Path, data: tiny.Tiny) -> None:
    imported = tmp_path / "imported"
    imported.touch()
    wanted = configured(tmp_path, data, inline(LOOP, "1000000", str(imported)))
    pod = custom.start(tmp_path, wanted)[0]
    pod.wait_step(3)
    assert pod.get("/checkpoint", method="POST", body={"reason": "Cordoned"})[0] == 202
    step = runs.wait_until(pod.committed, "a checkpoint")
    imported.unlink()
    os.kill(pod.ranks()[0], signal.SIGKILL)
    assert pod.wait() == 137
    assert pod.words().checkpoint.step == step  # type: ignore[union-attr]
    damaged = wanted.checkpoints_uri.removeprefix("file://") + f"/step-{step + 5}-a1"
    Path(damaged).mkdir()
    (Path(damaged) / "state.json").write_text("never committed")
    pod = custom.start(tmp_path, wanted.model_copy(update={"attempt": 2, "require_checkpoint": True}))[0]
    runs.wait_until(lambda: pod.progress().get("runningAt"), "the script to run")
    assert pod.progress()["startStep"] == step, "before the script has said a word, too: lost steps are counted by it"
    imported.touch()
    pod.wait_step(step + 1)
    assert pod.progress()["startStep"] == step
    Path(wanted.run_uri.removeprefix("file://"), "fence", "3").write_text(
        json.dumps({"attempt": 3, "resumeStep": step, "at": "2026-01-01T00:00:00Z"})
    )
    pod.get("/checkpoint", method="POST", body={"reason": "Cordoned"})
    assert pod.wait() == ExitCode.STOPPED_UNSAVED
    assert pod.words().reason == "Fenced"


@pytest.mark.slow
def test_silence_is_a_hang_and_every_stack_is_in_the_log(tmp_path: Path, data: tiny.Tiny) -> None:
    code = """\
import time
from finetune_trainer.integrations.script import Script
me = Script.here()
me.begin(step=0)
me.report(step=1)
def stuck_here():
    time.sleep(1000)
stuck_here()
"""
    pod = run(tmp_path, configured(tmp_path, data, inline(code), retry={"hangTimeout": "2s"}))
    assert pod.process.returncode == ExitCode.HANG, pod.log()
    assert pod.words().first_failing_rank == 0
    assert "stuck_here" in pod.log()


@pytest.mark.nightly
@pytest.mark.timeout(900)  # three gangs of two import torch, transformers and trl
def test_trl_is_stopped_with_skew_resumed_and_ends_where_it_would_have(tmp_path: Path, data: tiny.Tiny) -> None:
    """The example: an ordinary SFTTrainer script and the callback, two ranks on gloo: uninterrupted in one pod; in two pods that
    get SIGTERM one after the other, then resumed in one."""
    script = yaml.safe_load(EXAMPLE.read_text())["spec"]["trainer"]["custom"]["args"][0]
    command = inline(script, "--steps=12", "--save-steps=100")
    whole = run(tmp_path / "whole", configured(tmp_path / "whole", data, command, ranks=2))
    assert whole.process.returncode == 0, whole.log()
    wanted = configured(tmp_path / "cut", data, command)
    pods = custom.start(tmp_path / "cut", wanted, nodes=2)
    pods[0].wait_step(3)
    pods[1].terminate()
    runs.wait_until(lambda: pods[0].progress().get("stopRequestedAt"), "the stop to reach the other pod")
    pods[0].terminate()
    assert [pod.wait() for pod in pods] == [ExitCode.STOPPED] * 2, pods[0].log() + pods[1].log()
    stopped = pods[0].words()
    assert stopped.checkpoint is not None
    assert 3 <= stopped.step < 12
    later = wanted.model_copy(update={"attempt": 2, "require_checkpoint": True, "processes_per_node": 2})
    again = run(tmp_path / "cut", later)
    assert again.process.returncode == 0, again.log()
    assert (again.words().start_step, again.words().step) == (stopped.step, 12)
    assert (again.scratch / "checkpoints" / f"checkpoint-{stopped.step}" / "rng_state_1.pth").is_file()
    one, two = (p.scratch / "output" / "adapter_model.safetensors" for p in (whole, again))
    assert one.read_bytes() == two.read_bytes()
