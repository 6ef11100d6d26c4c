"""The command line as a user meets it: words, codes, JSON; never a stack trace, never torch."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from finetune_api.exitcodes import ExitCode
from finetune_cli.main import CODES, parser
from tests.cli.manifests import JOB, environment, finetune, write

COMMANDS = ("run", "validate", "plan", "teach")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 30)
    write(tmp_path)
    return tmp_path


def test_version() -> None:
    done = finetune("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"finetune {version('finetune-operator')}")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str) -> None:
    done = finetune(command, "--help")
    assert done.returncode == 0
    assert f"finetune {command} -f job.yaml" in done.stdout


def test_every_code_is_in_the_help() -> None:
    assert all(f"{int(code)} " in CODES for code in ExitCode)


@pytest.mark.parametrize(
    "arguments", [(), ("run",), ("fly",), ("run", "-f", "x", "--processes", "0"), ("plan", "-f", "absent.yaml")]
)
def test_a_wrong_command_line_is_64(arguments: tuple[str, ...]) -> None:
    done = finetune(*arguments)
    assert done.returncode == ExitCode.INVALID_SPEC
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_no_torch_is_imported(command: str, folder: Path) -> None:
    code = (
        "import sys; from finetune_cli.main import main\n"
        f"try: main(['{command}', '-f', 'job.yaml'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'peft', 'kopf', 'kubernetes', 'finetune_operator'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_validate_as_json(folder: Path) -> None:
    write(folder, JOB.replace("maxSteps", "maxStep"))
    done = finetune("validate", "-f", "job.yaml", "--local", "--output", "json", folder=folder)
    document = json.loads(done.stdout)
    assert done.returncode == document["exitCode"] == 64
    (problem,) = document["problems"]
    assert (problem["file"], problem["line"], problem["field"]) == ("job.yaml", 12, "spec.training.maxStep")


def test_validate_several_documents_from_stdin(folder: Path) -> None:
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
    done = finetune("validate", "-f", "-", "--local", folder=folder, stdin=f"{JOB}---\n{other}")
    assert done.returncode == 0, done.stdout
    assert "ConfigMap/x is not one of ours" in done.stdout


def test_validate_reads_the_data(folder: Path) -> None:
    done = finetune("validate", "-f", "job.yaml", "--local", "--data", folder=folder)
    assert done.returncode == 0, done.stdout
    assert "30 records" in done.stdout
    with (folder / "data" / "train.jsonl").open("a") as file:
        file.write('{"prompt": 7}\n')
    done = finetune("validate", "-f", "job.yaml", "--local", "--data", folder=folder)
    assert done.returncode == ExitCode.DATA_INVALID
    assert "line 31" in done.stdout


def test_plan_says_what_is_missing_and_gives_no_stack_trace(folder: Path) -> None:
    done = finetune("plan", "-f", "job.yaml", "--output", "json", folder=folder)
    document = json.loads(done.stdout)
    assert done.returncode == document["exitCode"] == ExitCode.WAITING
    assert "nothing is stored at" in document["message"]
    assert "looked for again" not in document["message"]


def test_two_jobs_need_a_name(folder: Path) -> None:
    write(folder, f"{JOB}---\n{JOB.replace('router', 'other')}")
    done = finetune("plan", "-f", "job.yaml", folder=folder)
    assert done.returncode == 64
    assert "choose it with --name" in done.stdout


def test_options_are_the_same_everywhere() -> None:
    own = {"teach": ["--to", "y"]}
    for command in COMMANDS:
        assert parser().parse_args([command, "-f", "x", *own.get(command, [])]).output == "text"
