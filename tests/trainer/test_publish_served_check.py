"""The serving image's two scripts, run as the container runs them, over a stand-in for vLLM (`fakevllm`)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from finetune_api.reports import PublishReport
from finetune_api.served import SERVED_CHECK
from finetune_trainer.publish import served_check
from finetune_trainer.publish.served import take_answer
from finetune_trainer.publish.volume import Volume
from tests.trainer.answers import equal, reference

FAKE = Path(__file__).parent / "fakevllm"


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    made = Volume(tmp_path / "publish")
    made.clear()
    made.leave_scripts()
    made.model.mkdir()
    (made.model / SERVED_CHECK).write_text(reference().model_dump_json(by_alias=True, exclude_none=True))
    return made


def command(volume: Volume, *arguments: str) -> list[str]:
    return [sys.executable, "-I", str(volume.root / "served_check.py"), *arguments]


def environment(volume: Volume, **more: str) -> dict[str, str]:
    """Without our packages: the scripts find only the standard library and the stand-in."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    return kept | {"FINETUNE_TERMINATION_LOG": str(volume.root / "termination")} | more


def with_engine(volume: Volume) -> None:
    """-I hides PYTHONPATH and the script's folder, as nothing else may; the engine is a plain child and sees both."""
    (volume.root / "vllm").symlink_to(FAKE / "vllm")


def run(volume: Volume, *arguments: str, engine: bool = True, **env: str) -> tuple[int, str, PublishReport | None]:
    if engine:
        with_engine(volume)
    done = subprocess.run(
        command(volume, *arguments), env=environment(volume, **env), capture_output=True, text=True, timeout=60
    )
    words = volume.root / "termination"
    report = PublishReport.model_validate_json(words.read_text()) if words.exists() else None
    if report is not None:
        assert report.exit_code == done.returncode
    return done.returncode, done.stdout + done.stderr, report


def options(volume: Volume) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((volume.root / "options.json").read_text())
    return found


def test_the_engines_answer_is_left_for_the_judge(volume: Volume) -> None:
    code, log, report = run(volume)
    assert (code, report) == (0, None), log
    answer = take_answer(volume.answer)
    assert (answer.engine, answer.dtype, answer.error) == ("vllm 0.0-fake", "float32", None)
    assert answer.answers == equal()


def test_defaults_load_fast_and_small(volume: Volume) -> None:
    run(volume)
    assert options(volume) == {
        "model": str(volume.model),
        "dtype": "float32",
        "max_model_len": 7,
        "seed": 0,
        "kv_cache_memory_bytes": 256 << 20,
        "enforce_eager": True,
        "disable_log_stats": True,
    }


def test_on_an_accelerator_the_precision_is_the_engines_own(volume: Volume) -> None:
    run(volume, FAKE_GPU="1")
    assert (options(volume)["dtype"], options(volume)["kv_cache_memory_bytes"]) == ("auto", None)


def test_arguments_are_read_as_vllm_serve_reads_them(volume: Volume) -> None:
    code, log, _ = run(
        volume, "--timeout", "30", "--", "--dtype=bfloat16", "--max-model-len", "64", "--no-enforce-eager"
    )
    assert code == 0, log
    found = options(volume)
    assert (found["dtype"], found["max_model_len"], found["enforce_eager"]) == ("bfloat16", 64, False)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--no-such-flag", "spec.publish.servedCheck.args: unrecognized arguments: --no-such-flag"),
        ("--dtype=int1", "spec.publish.servedCheck.args: argument --dtype: invalid choice: 'int1'"),
        ("--model=/other", "spec.publish.servedCheck.args: --model may not be set"),
    ],
)
def test_bad_arguments_get_words(volume: Volume, argument: str, words: str) -> None:
    code, _, report = run(volume, "--", argument)
    assert code == 64
    assert report is not None
    assert (report.reason, report.stage) == ("InvalidSpec", "ServedCheck")
    assert report.message.startswith(words)
    assert not volume.answer.exists()


def test_an_image_without_vllm_gets_words(volume: Volume) -> None:
    code, _, report = run(volume, engine=False)
    assert (code, report and report.reason) == (64, "NotAServingImage")
    assert report is not None
    assert "No module named 'vllm'" in report.message
    assert "set spec.publish.servedCheck.image to a vLLM image" in report.message


@pytest.mark.parametrize(
    ("error", "code", "reason", "words"),
    [
        ("CUDA out of memory. Tried to allocate 2 GiB", 71, "OutOfMemory", "raise spec.publish.servedCheck.resources"),
        ("Free memory on device (3/80 GiB) on startup is less", 71, "OutOfMemory", "--gpu-memory-utilization"),
        ("Available memory on node 0 (0.1/0.7 GiB) is less than requested", 71, "OutOfMemory", "out of memory: Avail"),
        ("CUDA error: an illegal memory access", 75, "Device", "the device failed: RuntimeError: CUDA error"),
        ("Engine core initialization failed. See root cause above.", 70, "EngineCrashed", "the engine died"),
    ],
)
def test_what_is_not_the_models_fault_is_no_verdict(
    volume: Volume, error: str, code: int, reason: str, words: str
) -> None:
    found, _, report = run(volume, FAKE_FAULT=f"raise:{error}")
    assert report is not None
    assert (found, report.reason) == (code, reason)
    assert words in report.message
    assert not volume.answer.exists()


def test_a_model_that_cannot_be_served_is_a_verdict(volume: Volume) -> None:
    code, _, report = run(volume, FAKE_FAULT="raise:Model architectures ['X']\n are not supported")
    assert (code, report) == (0, None)
    assert take_answer(volume.answer).error == "RuntimeError: Model architectures ['X'] are not supported"


def test_an_image_for_other_machines_is_no_verdict_on_the_model(volume: Volume) -> None:
    code, _, report = run(volume, FAKE_FAULT="raise:Failed to infer device type, please set VLLM_LOGGING_LEVEL")
    assert (code, report) == (0, None)
    answer = take_answer(volume.answer)
    assert (answer.error, answer.answers) == (None, [])
    assert answer.skipped == "the serving image finds no device it can run on (RuntimeError)"


def test_an_engine_that_gives_no_number_is_a_verdict(volume: Volume) -> None:
    run(volume, FAKE_FAULT="nan")
    assert take_answer(volume.answer).error == "ValueError: the engine gave a token the log-probability nan"


def test_a_tokenizer_that_cuts_otherwise_is_written_down(volume: Volume) -> None:
    run(volume, FAKE_FAULT="tokens")
    assert take_answer(volume.answer).answers[0].token_ids == [5, 6, 7, 9]


def test_a_crash_ends_in_words_with_the_end_of_the_log(volume: Volume) -> None:
    code, log, report = run(volume, FAKE_FAULT="segv")
    assert code == 70
    assert report is not None
    assert report.message == "the engine ended with signal SIGSEGV; its last line: about to crash"
    assert "about to crash" in (report.traceback or "")
    assert "about to crash" in log


def test_a_kill_is_most_likely_for_memory(volume: Volume) -> None:
    code, _, report = run(volume, FAKE_FAULT="killed")
    assert (code, report and report.reason) == (71, "OutOfMemory")
    assert report is not None
    assert "raise spec.publish.servedCheck.resources.limits.memory" in report.message


def test_a_hang_ends_at_the_deadline(volume: Volume) -> None:
    code, _, report = run(volume, "--timeout", "2", FAKE_FAULT="hang")
    assert (code, report and report.reason) == (77, "ServedCheckTimeout")
    assert report is not None
    assert "did not finish within 2 s; its last line: still loading" in report.message


def test_a_notice_ends_it_at_once_and_takes_the_engine_along(volume: Volume) -> None:
    with_engine(volume)
    with subprocess.Popen(
        command(volume), env=environment(volume, FAKE_FAULT="hang"), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while "still loading" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 86
    assert PublishReport.model_validate_json((volume.root / "termination").read_text()).reason == "Stopped"
    deadline = time.monotonic() + 20
    while _alive(volume):
        assert time.monotonic() < deadline, "the engine outlived its parent"
        time.sleep(0.05)


def _alive(volume: Volume) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(volume.root / "served_engine.py").encode() in words:
                found.append(int(entry.name))
    return found


def test_an_answer_of_an_earlier_try_starts_no_engine(volume: Volume) -> None:
    volume.answer.write_text("{}")
    code, log, _ = run(volume)
    assert code == 0
    assert "an earlier try has asked" in log
    assert not (volume.root / "options.json").exists()


def test_without_a_model_there_is_nothing_to_do(volume: Volume) -> None:
    (volume.model / SERVED_CHECK).unlink()
    code, log, _ = run(volume)
    assert (code, "there is no model to check" in log) == (0, True)


def test_the_last_words_fit_the_kubelets_limit(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    path = volume.root / "termination"
    monkeypatch.setenv("FINETUNE_TERMINATION_LOG", str(path))
    served_check.last_words(70, "EngineCrashed", "\u4f60" * 2000, "\u4f60" * 9000)
    assert len(path.read_bytes()) <= 4096
    assert PublishReport.model_validate_json(path.read_text()).exit_code == 70
