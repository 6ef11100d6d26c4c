"""Trackers see what the run writes down, under one run for all attempts, and can neither stop nor delay it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from e2e.ports import free_ports
from finetune_api import runconfig as rc
from finetune_api.runconfig import RunConfig
from finetune_trainer.tracking.__main__ import Feeder, clean
from finetune_trainer.tracking.points import Point, Tail
from finetune_trainer.tracking.sink import name_of, parameters, stopped
from finetune_trainer.tracking.start import METRICS_FILE, Trackers, environment
from tests.trainer import runs, tiny
from tests.trainer.mlflow_stub import Stub, serving

LINES = [
    {"step": 1, "loss": 2.5, "learningRate": 1e-4, "at": "2026-11-23T04:00:00.000Z"},
    {"step": 2, "loss": 2.25, "at": "2026-11-23T04:00:01.500Z"},
]


def config(folder: Path, tracking: dict[str, Any] | None = None, attempt: int = 1) -> RunConfig:
    document = runs.spec(Path("/m"), Path("/d"))
    document["model"]["secretRef"] = {"name": "s3"}
    return runs.config(folder / "store", document | ({"tracking": tracking} if tracking else {}), attempt=attempt)


def write(path: Path, lines: Sequence[dict[str, Any]], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("\n".join(json.dumps(line) for line in lines) + end)


class Fake:
    def __init__(self, failures: int = 0) -> None:
        self.failures, self.points, self.code, self.opened = failures, [], None, 0  # type: ignore[var-annotated]

    def open(self) -> str:
        self.opened += 1
        return "nowhere"

    def log(self, points: Sequence[Point]) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the token s3cret is not known")
        self.points += points

    def end(self, code: int) -> None:
        self.code = code


def test_only_whole_new_lines_are_read(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "metrics.jsonl")
    assert tail.read() == []
    write(tmp_path / "metrics.jsonl", LINES[:1], end='\n{"step": 2, "lo')
    assert [p.step for p in tail.read()] == [1]
    assert tail.read() == []
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('ss": 2.25, "at": "2026-11-23T04:00:01.500Z"}\nnot json\n')
    (point,) = tail.read()
    assert (point.step, point.values) == (2, {"loss": 2.25})
    assert point.milliseconds % 10_000 == 1500


def test_what_cannot_be_sent_waits_and_what_was_sent_is_not_sent_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = Fake(failures=2)
    feeder = Feeder(sink, Tail(tmp_path / "metrics.jsonl"))
    feeder.feed()
    assert sink.opened == 0, "a run that has no metrics makes no run anywhere"
    write(tmp_path / "metrics.jsonl", LINES)
    for _ in range(4):
        feeder.feed()
    assert [p.step for p in sink.points] == [1, 2]
    assert sink.opened == 1
    assert capsys.readouterr().out.count("training goes on") == 1, "the same trouble is told once"


def test_the_end_sends_the_rest_and_the_exit_code(tmp_path: Path) -> None:
    sink = Fake()
    feeder = Feeder(sink, Tail(tmp_path / "metrics.jsonl"))
    write(tmp_path / "metrics.jsonl", LINES)
    feeder.code = 85
    feeder.ending.set()
    feeder.run()
    assert (len(sink.points), sink.code) == (2, 85)


def test_secrets_are_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    assert clean("the token s3cret\nis not known") == "the token *** is not known"


def test_parameters_are_what_was_set_without_secrets(tmp_path: Path) -> None:
    found = parameters(config(tmp_path))
    assert found["method.lora.rank"] == "8"
    assert found["training.learningRate"] == "5e-3"
    assert found["model.uri"] == "file:///m"
    assert not any("secret" in name.lower() for name in found)


def test_all_attempts_of_a_run_have_one_name(tmp_path: Path) -> None:
    assert name_of(config(tmp_path)) == name_of(config(tmp_path, attempt=3)) == "job-0123456789abcdef"
    assert [stopped(code) for code in (0, 85, 86, 72)] == [False, True, True, False]


def test_a_process_gets_its_own_secret_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rc.SECRETS_DIR_ENV, str(tmp_path / "secrets"))
    (tmp_path / "secrets" / "wandb").mkdir(parents=True)
    (tmp_path / "secrets" / "wandb" / "WANDB_API_KEY").write_text("s3cret\n")
    (tmp_path / "secrets" / "wandb" / "AWS_SECRET_ACCESS_KEY").write_text("other")
    tracking = {"wandb": {"project": "p", "secretRef": {"name": "wandb"}}}
    wanted = config(tmp_path, tracking).spec.tracking
    assert wanted
    assert wanted.wandb
    found = environment({"PATH": "/bin", "MLFLOW_TRACKING_TOKEN": "old"}, wanted.wandb.secret_ref, tmp_path)
    assert (found["WANDB_API_KEY"], found["PATH"]) == ("s3cret", "/bin")
    assert not {"MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY"} & found.keys()


def test_nothing_is_started_for_nobody(tmp_path: Path) -> None:
    trackers = Trackers(config(tmp_path), tmp_path)
    assert not trackers._processes
    trackers.end(0, seconds=0.0)


def test_a_tracker_that_hangs_is_left_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trackers = Trackers(config(tmp_path), tmp_path)
    hanging = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.PIPE)
    trackers._processes["mlflow"] = hanging
    trackers.end(85, seconds=0.0)
    assert hanging.returncode == -9
    assert "was not done in time" in capsys.readouterr().out


def tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: RunConfig, lines: Any, code: int) -> None:
    """As the launcher starts, feeds and ends a tracker."""
    scratch = tmp_path / f"scratch-{wanted.attempt}"
    write(scratch / "attempt" / METRICS_FILE, lines)
    (scratch / "run.json").write_text(wanted.model_dump_json(by_alias=True, exclude_none=True))
    monkeypatch.setenv(rc.CONFIG_ENV, str(scratch / "run.json"))
    monkeypatch.setenv(rc.SCRATCH_DIR_ENV, str(scratch))
    monkeypatch.setenv(rc.SECRETS_DIR_ENV, str(tmp_path / "secrets"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    trackers = Trackers(wanted, scratch)
    trackers.end(code, seconds=runs.PATIENCE)


@pytest.mark.slow
def test_two_attempts_write_to_one_mlflow_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secrets" / "mlflow").mkdir(parents=True)
    (tmp_path / "secrets" / "mlflow" / "MLFLOW_TRACKING_TOKEN").write_text("s3cret")
    stub = Stub()
    with serving(stub) as address:
        tracking = {"mlflow": {"uri": address, "experiment": "routing", "secretRef": {"name": "mlflow"}}}
        tracked(tmp_path, monkeypatch, config(tmp_path, tracking), LINES[:1], 85)
        assert stub.runs[0]["info"]["status"] == "KILLED"
        tracked(tmp_path, monkeypatch, config(tmp_path, tracking, attempt=2), LINES[1:], 0)
    assert stub.experiments == ["routing"]
    assert [run["info"]["status"] for run in stub.runs] == ["FINISHED"]
    assert [(m["key"], m["value"], m["step"]) for m in stub.metrics] == [
        ("loss", 2.5, 1),
        ("learningRate", 1e-4, 1),
        ("loss", 2.25, 2),
    ]
    assert stub.params["training.learningRate"] == "5e-3"
    assert stub.authorizations == {"Bearer s3cret"}
    assert "s3cret" not in capfd.readouterr().out


@pytest.mark.slow
def test_a_server_that_refuses_or_is_not_there_is_told_of_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (port,) = free_ports(1)
    gone = config(tmp_path, {"mlflow": {"uri": f"http://127.0.0.1:{port}"}})
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    tracked(tmp_path, monkeypatch, gone, LINES, 0)
    assert "the tracker does not take the metrics" in capfd.readouterr().out


@pytest.mark.slow
def test_wandb_offline_leaves_its_files_with_the_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = config(tmp_path, {"wandb": {"project": "routing", "mode": "Offline"}})
    tracked(tmp_path, monkeypatch, wanted, LINES, 0)
    stored = list((tmp_path / "store").rglob("attempts/1/wandb/offline-run-*/*.wandb"))
    assert [path.name for path in stored] == ["run-job-0123456789abcdef.wandb"]
    assert stored[0].stat().st_size > 0


@pytest.mark.nightly
def test_a_pod_tracks_its_run_and_ends_as_ever(tmp_path: Path) -> None:
    made = tiny.build(tmp_path / "tiny", rows=40)
    stub = Stub()
    with serving(stub) as address:
        document = runs.spec(made.model, made.data, training={"maxSteps": 4}, evaluation={"intervalSteps": 2})
        document["tracking"] = {"mlflow": {"uri": address}}
        gang = runs.start(tmp_path, runs.config(tmp_path / "store", document))
        try:
            assert gang.wait() == [0], gang.pods[0].log()
        finally:
            gang.kill()
    assert stub.experiments == ["team-a"]
    assert stub.runs[0]["info"]["status"] == "FINISHED"
    assert [m["step"] for m in stub.metrics if m["key"] == "loss"] == [1, 2, 3, 4]
    assert [m["step"] for m in stub.metrics if m["key"] == "evalLoss"] == [2, 4]
