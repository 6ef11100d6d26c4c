"""Config, channel, storage opening, last words: what every part of the data plane stands on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_api import runconfig as rc
from finetune_api.exitcodes import ExitCode
from finetune_api.reports import LastWords
from finetune_artifacts import open_store
from finetune_trainer.common.channel import Channel, Heart, RankError, StopRequest
from finetune_trainer.common.clock import timestamp
from finetune_trainer.common.config import load_config, pod_index, run_token
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.files import read_json, write_atomic
from finetune_trainer.common.lastwords import store_last_words, write_termination
from finetune_trainer.common.log import event
from finetune_trainer.common.models import fetch_model, fetch_teacher
from finetune_trainer.common.stores import open_for
from tests.trainer import runs, small

CONFIG = runs.config(Path("/store"), runs.spec(Path("/m"), Path("/d")))


def test_config_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(CONFIG.model_dump_json(by_alias=True))
    assert load_config(path) == CONFIG


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("{}", "namespace"),
        (json.dumps(CONFIG.to_wire() | {"attempt": "three"}), "attempt"),
    ],
)
def test_bad_config_gets_words(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RunError, match=words) as raised:
        load_config(path)
    assert raised.value.code == 64
    assert str(path) in raised.value.message


def test_pod_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOB_COMPLETION_INDEX", raising=False)
    assert pod_index() == 0
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    assert pod_index() == 3
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "x")
    with pytest.raises(RunError, match="JOB_COMPLETION_INDEX"):
        pod_index()


def test_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FINETUNE_TOKEN_PATH", str(tmp_path / "token"))
    assert run_token() is None
    (tmp_path / "token").write_text("\n")
    assert run_token() is None
    (tmp_path / "token").write_text("secret\n")
    assert run_token() == "secret"


def test_missing_secret_is_something_to_wait_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FINETUNE_SECRETS_DIR", str(tmp_path))
    (tmp_path / "empty" / "..data").mkdir(parents=True)
    for name in ("absent", "empty"):
        with pytest.raises(RunError, match=name) as raised:
            open_for(CONFIG, "s3://bucket/path", name)
        assert (raised.value.code, raised.value.reason) == (69, "SecretMissing")


def test_claims_are_found_where_they_are_mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FINETUNE_PVC_DIR", str(tmp_path))
    (tmp_path / "claim").mkdir()
    open_for(CONFIG, "pvc://claim/a", None).put_bytes("b", b"content")
    assert (tmp_path / "claim" / "a" / "b").read_bytes() == b"content"


def test_a_model_that_changed_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    config = runs.config(tmp_path / "store", runs.spec(model, Path("/d")))
    assert (fetch_model(config, tmp_path / "there", lambda _bytes: None) / "config.json").read_text() == "{}"
    stale = config.model_copy(update={"model_revision": "sha256:other"})
    with pytest.raises(RunError, match="changed since preflight") as raised:
        fetch_model(stale, tmp_path / "elsewhere", lambda _bytes: None)
    assert (raised.value.code, raised.value.reason) == (66, "ModelChanged")


def test_a_model_that_is_gone_is_named(tmp_path: Path) -> None:
    config = runs.config(tmp_path / "store", runs.spec(tmp_path / "nowhere", Path("/d")))
    with pytest.raises(RunError, match="nowhere") as raised:
        fetch_model(config, tmp_path / "there", lambda _bytes: None)
    assert raised.value.code == 66


def test_channel_tells_both_sides(tmp_path: Path) -> None:
    launcher, rank = Channel(tmp_path / "c"), Channel(tmp_path / "c")
    assert rank.stop_requested() is None
    assert rank.saves_requested() == 0
    assert launcher.beats() == {}
    request = StopRequest(timestamp(), 12.5, "SIGTERM")
    launcher.request_stop(request)
    launcher.request_save(2)
    assert rank.stop_requested() == request
    assert rank.saves_requested() == 2
    late, early = (RankError(rank, 70, "R", "m", "t", at, False) for rank, at in ((0, 2.0), (1, 1.0)))
    rank.put_error(late)
    rank.put_error(early)
    assert launcher.errors() == [early, late]


def test_hearts_beat_when_they_should(tmp_path: Path) -> None:
    channel = Channel(tmp_path)
    heart = Heart(channel, 3, every=0.0)
    first = channel.beats()[3]

    def later() -> bool:
        heart.beat()
        return channel.beats()[3][1] > first[1]

    runs.wait_until(later, "a later beat", 10)
    assert channel.beats()[3][0] == first[0]
    slow = Heart(channel, 4, every=3600)
    slow.beat()
    beat = channel.beats()[4]
    slow.beat()
    assert channel.beats()[4] == beat


def test_files_are_whole(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"{}")
    assert read_json(tmp_path / "a") == {}
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert read_json(tmp_path / "b") is None


def test_last_words_go_to_the_kubelet_and_to_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FINETUNE_TERMINATION_LOG", str(tmp_path / "termination"))
    words = LastWords(
        attempt=2, index=1, exit_code=70, reason="Failed", message="boom", log_tail="x" * 9000, traceback="y" * 9000,
        at=timestamp(),
    )  # fmt: skip
    write_termination(words)
    store_last_words(open_store(f"file://{tmp_path}/run"), words)
    short = (tmp_path / "termination").read_bytes()
    assert len(short) <= 4096
    assert LastWords.model_validate_json(short).message == "boom"
    kept = LastWords.model_validate_json((tmp_path / "run" / "attempts" / "2" / "exit-1.json").read_bytes())
    assert kept.log_tail == "x" * 9000


def test_log_lines_are_json_with_context(capsys: pytest.CaptureFixture[str]) -> None:
    event("two\nlines", some_count=3, error=RunError(ExitCode.FAILED, "why"))
    line = json.loads(capsys.readouterr().out)
    assert (line["message"], line["someCount"], line["error"]) == ("two\nlines", 3, "why")


def test_command_line_explains_itself_and_bad_config_exits_64(tmp_path: Path) -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "finetune_trainer", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "examples:" in help_text
    assert "preflight" in help_text
    done = subprocess.run(
        [sys.executable, "-m", "finetune_trainer", "train", "--config", str(tmp_path / "none.json")],
        env={"PATH": "", "FINETUNE_TERMINATION_LOG": str(tmp_path / "words")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 64, done.stderr
    assert "none.json" in LastWords.model_validate_json((tmp_path / "words").read_bytes()).message
    assert "Traceback" not in done.stderr


def test_the_launcher_needs_no_torch_before_the_ranks_start() -> None:
    program = (
        "import sys, finetune_trainer.__main__, finetune_trainer.launcher.main\n"
        "heavy = {'torch', 'transformers', 'peft', 'tensorboard'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_teacher_is_fetched_with_its_own_credentials_and_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "config.json").write_text("{}")
    monkeypatch.setenv(rc.SECRETS_DIR_ENV, str(tmp_path / "secrets"))
    source = {"uri": f"file://{tmp_path}/teacher", "secretRef": {"name": "teacher-s3"}}
    config = small.config(tmp_path, {"objective": {"type": "Distill", "distill": {"teacher": source}}})
    with pytest.raises(RunError, match="the Secret 'teacher-s3' for file://"):
        fetch_teacher(config, tmp_path / "there", lambda _bytes: None)
    (tmp_path / "secrets" / "teacher-s3").mkdir(parents=True)
    (tmp_path / "secrets" / "teacher-s3" / "AWS_ACCESS_KEY_ID").write_text("x")
    found = fetch_teacher(config, tmp_path / "there", lambda _bytes: None)
    assert found is not None
    assert (found / "config.json").read_text() == "{}"
    pinned = config.model_copy(update={"teacher_revision": "sha256:other"})
    with pytest.raises(RunError, match=r"the teacher at .* changed since preflight") as refused:
        fetch_teacher(pinned, tmp_path / "elsewhere", lambda _bytes: None)
    assert refused.value.reason == "TeacherChanged"
    assert fetch_teacher(small.config(tmp_path), tmp_path / "none", lambda _bytes: None) is None
