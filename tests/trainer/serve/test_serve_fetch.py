"""What fetch leaves in the engine's folder: the whole published model, or nothing that an engine would load."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_api import runconfig as rc
from finetune_api import serveconfig as sc
from finetune_api.layout import MANIFEST
from finetune_api.serveconfig import FetchReport, ServeConfig
from finetune_artifacts import Store, Unreachable, open_store
from finetune_trainer.serve import fetch as module
from finetune_trainer.serve.patience import Patience
from tests.artifacts.conftest import FaultyProxy, S3Server, proxy, s3
from tests.trainer.serve import published

__all__ = ["proxy", "s3"]


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rc.TERMINATION_LOG_ENV, str(tmp_path / "termination"))
    monkeypatch.setenv(rc.SECRETS_DIR_ENV, str(tmp_path / "secrets"))
    monkeypatch.setenv(rc.PVC_DIR_ENV, str(tmp_path / "claims"))
    monkeypatch.setenv(sc.MODEL_DIR_ENV, str(tmp_path / "engine"))
    (tmp_path / "engine").mkdir()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    published.publish(tmp_path / "model")
    return tmp_path / "model"


def run(config: ServeConfig, root: Path, patience: Patience | None = None) -> FetchReport:
    code = module.fetch(config, patience)
    report = FetchReport.model_validate_json((root / "termination").read_text())
    assert report.exit_code == code
    return report


def of(model: Path, **fields: Any) -> FetchReport:
    return run(published.config(f"file://{model}", **fields), model.parent)


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_file_that_the_manifest_names_arrives(tmp_path: Path) -> None:
    digest = published.publish(tmp_path / "model")
    (tmp_path / "model" / "stray.safetensors").write_text("not published")
    report = of(tmp_path / "model", expectedDigest=digest)
    assert (report.exit_code, report.reason) == (0, "Fetched")
    wanted = content(tmp_path / "model")
    del wanted[MANIFEST], wanted["stray.safetensors"]
    assert content(tmp_path / "engine") == wanted
    assert report.bytes > 0


def test_a_second_start_keeps_what_is_whole_and_repairs_the_rest(model: Path) -> None:
    engine = model.parent / "engine"
    of(model)
    before = {name: (engine / name).stat().st_ino for name in ("model.safetensors", "tokenizer.json")}
    (engine / "tokenizer.json").write_text("torn")
    (engine / "left-over.safetensors").write_text("of another revision")
    assert of(model).exit_code == 0
    assert (engine / "model.safetensors").stat().st_ino == before["model.safetensors"]
    assert (engine / "tokenizer.json").read_text() == "{}"
    assert not (engine / "left-over.safetensors").exists()


def test_changed_weights_are_refused_by_name_and_nothing_loads(model: Path) -> None:
    engine = model.parent / "engine"
    of(model)
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    (engine / "model.safetensors").unlink()
    report = of(model)
    assert (report.exit_code, report.reason) == (66, "FileTampered")
    assert f"file://{model}/model.safetensors: expected sha256:" in report.message
    assert not (engine / "config.json").exists()
    assert not (engine / "model.safetensors").exists()


def test_another_manifest_than_expected_is_refused_before_a_byte(model: Path) -> None:
    report = of(model, expectedDigest="sha256:" + "1" * 64)
    assert (report.exit_code, report.reason, report.bytes) == (66, "ManifestTampered", 0)
    assert content(model.parent / "engine") == {}


def test_a_file_that_is_gone_is_named(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    report = of(model)
    assert (report.exit_code, report.reason) == (66, "FileMissing")
    assert "tokenizer.json" in report.message
    assert not (model.parent / "engine" / "config.json").exists()


def test_a_path_out_of_the_folder_writes_nothing(model: Path) -> None:
    published.edit(model, lambda d: d["files"][0].update(path="../outside.json"))
    assert of(model).reason == "ManifestInvalid"
    assert not (model.parent / "outside.json").exists()


def test_a_missing_secret_is_waited_for(model: Path) -> None:
    report = of(model, secret="model-s3")
    assert (report.exit_code, report.reason) == (69, "SecretMissing")


def test_storage_that_comes_back_is_waited_out(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def open_for(*args: Any) -> Store:
        tries.append(1)
        if len(tries) < 4:
            raise Unreachable("s3://bucket", "read", "no answer", "later")
        return open_store(f"file://{model}")

    monkeypatch.setattr(module, "open_for", open_for)
    report = run(published.config("s3://bucket/model"), model.parent, Patience(30, first=0.001))
    assert (report.exit_code, len(tries)) == (0, 4)


def s3_config(root: Path, port: int, server: S3Server | None = None, **fields: Any) -> ServeConfig:
    secret = root / "secrets" / "s3"
    secret.mkdir(parents=True, exist_ok=True)
    keys = server.credentials if server else {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "r"}
    for key, value in (keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}).items():
        (secret / key).write_text(value)
    return published.config("s3://bucket/served/model", secret="s3", **fields)


def test_storage_that_stays_away_is_74_after_patience(tmp_path: Path) -> None:
    report = run(s3_config(tmp_path, 9), tmp_path, Patience(0.5, first=0.1))
    assert (report.exit_code, report.reason) == (74, "StorageUnreachable")
    assert "s3://bucket" in report.message


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def test_a_pod_killed_in_the_middle_goes_on_where_it_was(tmp_path: Path, s3: S3Server, proxy: FaultyProxy) -> None:
    source = s3.root / "bucket" / "served" / "model"
    published.publish(source)
    (source / "model.safetensors").write_bytes(os.urandom(24 << 20))
    digest = published.commit(source)
    half = tmp_path / "engine" / "model.safetensors.part"
    proxy.hold_after = 12 << 20
    config = s3_config(tmp_path, proxy.port, s3, expectedDigest=digest)
    first = start(config, tmp_path)
    try:
        until(lambda: half.exists() and half.stat().st_size >= 8 << 20)
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    arrived = half.stat().st_size
    assert not (tmp_path / "engine" / "config.json").exists()
    proxy.hold_after, proxy.down = None, 0
    report = run(config, tmp_path)
    assert report.exit_code == 0
    assert content(tmp_path / "engine")["model.safetensors"] == (source / "model.safetensors").read_bytes()
    assert proxy.down < (24 << 20) - arrived + (2 << 20)


def start(config: ServeConfig, root: Path) -> "subprocess.Popen[str]":
    (root / "serve.json").write_text(config.model_dump_json(by_alias=True))
    return subprocess.Popen(
        [sys.executable, "-m", "finetune_trainer", "fetch", "--config", str(root / "serve.json")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_pod_that_is_deleted_while_it_waits_ends_at_once(tmp_path: Path) -> None:
    """As PID 1 it would otherwise ignore the signal and be waited for until its grace is over."""
    waiting = start(s3_config(tmp_path, 9), tmp_path)
    with waiting:
        try:
            assert waiting.stdout is not None
            assert "trying again" in waiting.stdout.readline()
            waiting.send_signal(signal.SIGTERM)
            assert waiting.wait(60) == 143
        finally:
            waiting.kill()


@pytest.fixture
def claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model on a claim, which is the engine's own folder."""
    folder = tmp_path / "claims" / "models" / "support"
    published.publish(folder)
    monkeypatch.setenv(sc.MODEL_DIR_ENV, str(folder))
    return folder


def test_a_model_on_a_claim_is_hashed_where_it_lies(claim: Path, tmp_path: Path) -> None:
    before = content(claim)
    report = run(published.config("pvc://models/support"), tmp_path)
    assert (report.exit_code, report.reason) == (0, "Fetched")
    assert report.bytes == sum(len(data) for name, data in before.items() if name != MANIFEST)
    assert content(claim) == before


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("model.safetensors", b"short", "FileSize"),
        ("tokenizer.json", b"[]", "FileTampered"),
        ("tokenizer.json", None, "FileMissing"),
        ("other.safetensors", b"anything", "FileTampered"),
    ],
)
def test_a_changed_model_on_a_claim_is_refused_and_left_as_it_is(
    claim: Path, tmp_path: Path, name: str, data: bytes | None, reason: str
) -> None:
    if data is None:
        (claim / name).unlink()
    else:
        (claim / name).write_bytes(data)
    before = content(claim)
    report = run(published.config("pvc://models/support"), tmp_path)
    assert (report.exit_code, report.reason) == (66, reason)
    assert name in report.message
    assert content(claim) == before


def test_progress_is_said_in_lines(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of(model)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any("are in" in line["message"] and line["digest"].startswith("sha256:") for line in lines)
