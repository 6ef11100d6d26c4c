"""Publishing in three containers: what each leaves for the next, and what the serving image's answer decides.

The engine is the stand-in of `fakevllm`; it answers with the trainer's own numbers, moved by `FAKE_SHIFT`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune_api import runconfig as rc
from finetune_api.layout import GATE, MANIFEST, SERVED
from finetune_api.manifests import ModelManifest
from finetune_api.reports import PublishReport
from finetune_api.runconfig import RunConfig
from finetune_api.served import SERVED_CHECK, ServedReference
from finetune_trainer.publish.main import Part, publish
from tests.trainer import small
from tests.trainer.finished import RUN_KEY, finished, run

# peft 0.21 reads an attribute that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
FAKE = Path(__file__).parent / "fakevllm"
IMAGE = "registry/vllm:1"


def served(root: Path, spec: dict[str, Any] | None = None) -> RunConfig:
    return finished(root, spec).model_copy(update={"serving_image": IMAGE})


def with_check(config: RunConfig, **check: Any) -> RunConfig:
    document = small.merged(config.spec.to_wire(), {"publish": {"servedCheck": check}})
    return config.model_copy(update={"spec": type(config.spec).model_validate(document)})


def part(config: RunConfig, which: Part, root: Path) -> PublishReport:
    code = publish(config, which)
    report = PublishReport.model_validate_json((root / "termination").read_text())
    assert report.exit_code == code
    return report


def ask(root: Path, **env: str) -> str:
    """The second container. What it says; it must end well."""
    volume = root / "scratch" / rc.PUBLISH_DIR
    done = subprocess.run(
        [sys.executable, str(volume / "served_check.py")],
        env=dict(os.environ) | {"PYTHONPATH": str(FAKE)} | env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def pod(config: RunConfig, root: Path, **env: str) -> tuple[PublishReport, str]:
    """All three containers; the last words and what the serving image said."""
    prepared = part(config, Part.PREPARE, root)
    assert prepared.exit_code == 0, prepared.message
    said = ask(root, **env)
    return part(config, Part.FINISH, root), said


def run_dir(root: Path) -> Path:
    return root / "runs" / RUN_KEY


def manifest(root: Path) -> ModelManifest:
    return ModelManifest.model_validate_json((run_dir(root) / "model" / MANIFEST).read_text())


def started_engine(said: str) -> bool:
    return "loading the model" in said


def test_three_containers_publish_what_the_engine_agrees_with(root: Path) -> None:
    report, said = pod(served(root), root)
    assert (report.exit_code, report.reason, report.gate_passed) == (0, "Published", True), report.message
    assert started_engine(said)
    (line,) = report.gate
    assert (line.metric, line.passed) == ("servedCheck", True)
    assert line.message.startswith("served check: mean |logprob delta| 0 <= 0.01 over ")
    assert set(report.metrics) == {"loss", "perplexity", "exactMatch"}
    found = manifest(root)
    assert found.served_check is not None
    assert (found.served_check.image, found.served_check.engine) == (IMAGE, "vllm 0.0-fake")
    assert SERVED_CHECK in {file.path for file in found.files}
    assert found.gate == report.gate
    gate = json.loads((run_dir(root) / GATE).read_text())
    assert [result["metric"] for result in gate["results"]] == ["servedCheck"]


@pytest.mark.slow
def test_the_reference_is_published_also_where_nobody_asked_an_engine(root: Path) -> None:
    report = run(finished(root), root)
    assert report.exit_code == 0
    assert report.gate == []
    found = ServedReference.model_validate_json((run_dir(root) / "model" / SERVED_CHECK).read_bytes())
    assert sum(len(prompt.token_ids) for prompt in found.prompts) > 100
    assert manifest(root).served_check is None


@pytest.mark.slow
def test_an_engine_that_answers_otherwise_blocks_in_words(root: Path) -> None:
    report, _ = pod(served(root), root, FAKE_SHIFT="0.5")
    assert (report.exit_code, report.reason, report.gate_passed) == (76, "GateFailed", False)
    assert report.message.startswith("gate failed: served check: mean |logprob delta| 0.5 > 0.01 over ")
    assert not (run_dir(root) / "model").exists()
    assert json.loads((run_dir(root) / GATE).read_text())["passed"] is False


@pytest.mark.slow
def test_a_tampered_reference_blocks(root: Path) -> None:
    config = served(root)
    assert part(config, Part.PREPARE, root).exit_code == 0
    ask(root)
    path = root / "scratch" / rc.PUBLISH_DIR / "model" / SERVED_CHECK
    document = json.loads(path.read_text())
    document["prompts"][0]["logprobs"][3] -= 20.0
    path.write_text(json.dumps(document))
    report = part(config, Part.FINISH, root)
    assert (report.exit_code, report.reason) == (76, "GateFailed")
    assert "(max 20 in prompt 'The quick brown fox" in report.message


@pytest.mark.slow
def test_relaxing_the_limit_starts_no_engine_again(root: Path) -> None:
    config = served(root)
    first, said = pod(config, root, FAKE_SHIFT="0.05")
    assert (first.exit_code, started_engine(said)) == (76, True)
    again, said = pod(with_check(config, maxLogprobDelta="0.1"), root)
    assert not started_engine(said)
    assert again.exit_code == 0, again.message
    assert "mean |logprob delta| 0.05 <= 0.1" in again.gate[0].message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "image"), [({"args": ["--no-enforce-eager"]}, IMAGE), ({"env": [{"name": "A"}]}, IMAGE), ({}, "vllm:2")]
)
def test_an_engine_that_is_started_otherwise_is_asked_anew(root: Path, check: dict[str, Any], image: str) -> None:
    config = served(root)
    first, _ = pod(config, root, FAKE_SHIFT="0.05")
    assert first.exit_code == 76
    changed = with_check(config, **check).model_copy(update={"serving_image": image})
    second, said = pod(changed, root)
    assert (second.exit_code, started_engine(said)) == (0, True)


@pytest.mark.slow
def test_a_model_that_cannot_be_served_is_asked_anew_each_time(root: Path) -> None:
    """Whatever it was, it gave no numbers that could be kept."""
    config = served(root)
    first, _ = pod(config, root, FAKE_FAULT="raise:Model architectures ['X'] are not supported")
    assert first.exit_code == 76
    assert "could not serve the model: RuntimeError: Model architectures ['X'] are not supported" in first.message
    assert not (run_dir(root) / SERVED).exists()
    second, said = pod(config, root)
    assert (second.exit_code, started_engine(said)) == (0, True)


@pytest.mark.slow
def test_with_warn_it_is_published_and_says_so(root: Path) -> None:
    report, _ = pod(served(root, {"evaluation": {"onGateFailure": "Warn"}}), root, FAKE_SHIFT="0.5")
    assert (report.exit_code, report.gate_passed) == (0, False)
    found = manifest(root)
    assert found.gate_passed is False
    assert found.served_check is not None
    assert found.served_check.passed is False


@pytest.mark.slow
def test_what_the_metrics_refuse_is_never_loaded(root: Path) -> None:
    config = served(root, {"evaluation": {"gate": [{"metric": "exactMatch", "min": "0.9"}]}})
    report = part(config, Part.PREPARE, root)
    assert (report.exit_code, report.reason) == (76, "GateFailed")
    assert not (root / "scratch" / rc.PUBLISH_DIR / "prepared.json").exists()


@pytest.mark.slow
def test_an_adapter_is_not_asked_about_and_that_is_said(root: Path) -> None:
    report = run(served(root, {"output": {"merge": False}}), root)
    assert report.exit_code == 0
    assert "no served check: an adapter is not served by itself (output.merge: false)" in report.message
    assert manifest(root).served_check is None


@pytest.mark.slow
def test_an_image_for_other_machines_is_said_and_stops_only_who_asked_for_the_check(root: Path) -> None:
    config = with_check(served(root), enabled=True)
    fault = "raise:Failed to infer device type"
    refused, _ = pod(config, root, FAKE_FAULT=fault)
    assert (refused.exit_code, refused.reason) == (64, "NoDevice")
    assert "set spec.publish.servedCheck.resources.gpus" in refused.message
    unasked = config.model_copy(update={"spec": finished(root).spec})
    report, _ = pod(unasked, root, FAKE_FAULT=fault)
    assert report.exit_code == 0, report.message
    assert "no served check: the serving image finds no device it can run on" in report.message
    assert (report.gate, manifest(root).served_check) == ([], None)


@pytest.mark.slow
def test_all_three_may_run_again_over_a_published_model(root: Path) -> None:
    config = served(root)
    pod(config, root)
    before = (run_dir(root) / "model" / MANIFEST).read_bytes()
    again = part(config, Part.PREPARE, root)
    assert (again.exit_code, again.reason) == (0, "AlreadyPublished")
    assert "there is no model to check" in ask(root)
    last = part(config, Part.FINISH, root)
    assert (last.exit_code, last.reason) == (0, "AlreadyPublished")
    assert (run_dir(root) / "model" / MANIFEST).read_bytes() == before


def test_a_last_container_without_the_first_gets_words(root: Path) -> None:
    report = part(served(root), Part.FINISH, root)
    assert report.exit_code == 70
    assert "the publish pod's first container did not finish" in report.message


@pytest.mark.slow
def test_a_last_container_without_an_answer_gets_words(root: Path) -> None:
    config = served(root)
    part(config, Part.PREPARE, root)
    report = part(config, Part.FINISH, root)
    assert (report.exit_code, report.reason) == (70, "ServedCheckFailed")
    assert not (run_dir(root) / "model" / MANIFEST).exists()
