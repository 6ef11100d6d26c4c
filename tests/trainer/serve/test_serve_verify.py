"""What verify answers about a published model that is whole, and about everything that may have happened to one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_api import runconfig as rc
from finetune_api.layout import MANIFEST
from finetune_api.serveconfig import ServeConfig, VerifyReport
from finetune_trainer.serve import verify as module
from tests.trainer.serve import published

BAD_LINE = {"metric": "perplexity", "passed": False, "message": "perplexity 9 > max 5"}


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rc.TERMINATION_LOG_ENV, str(tmp_path / "termination"))
    monkeypatch.setenv(rc.SECRETS_DIR_ENV, str(tmp_path / "secrets"))
    monkeypatch.setenv(rc.PVC_DIR_ENV, str(tmp_path / "claims"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    published.publish(tmp_path / "model")
    return tmp_path / "model"


def run(config: ServeConfig, root: Path) -> VerifyReport:
    code = module.verify(config)
    report = VerifyReport.model_validate_json((root / "termination").read_text())
    assert report.exit_code == code
    return report


def of(model: Path, **fields: Any) -> VerifyReport:
    return run(published.config(f"file://{model}", **fields), model.parent)


def test_a_whole_model_is_verified_and_named_by_its_digest(tmp_path: Path) -> None:
    digest = published.publish(tmp_path / "model")
    report = of(tmp_path / "model", expectedDigest=digest)
    assert (report.exit_code, report.reason, report.digest, report.gate_passed) == (0, "Verified", digest, True)
    assert report.files == 3
    assert report.bytes == sum(f.stat().st_size for f in (tmp_path / "model").iterdir() if f.name != MANIFEST)
    assert "LlamaForCausalLM" in report.message


def test_without_an_expected_digest_the_answer_brings_it(model: Path) -> None:
    assert of(model).digest == of(model, expectedDigest=of(model).digest).digest


def test_files_that_the_manifest_does_not_name_do_not_count(model: Path) -> None:
    (model / "pytorch_model.bin").write_text("anything")
    (model / "PUBLISHING.json").write_text("{}")
    assert of(model).exit_code == 0


def test_another_model_at_the_same_place_is_refused(model: Path) -> None:
    expected = "sha256:" + "1" * 64
    report = of(model, expectedDigest=expected)
    assert (report.exit_code, report.reason) == (66, "ManifestTampered")
    assert f"expected digest {expected}, found {published_digest(model)}" in report.message


def published_digest(model: Path) -> str:
    return str(of(model).digest)


def test_a_changed_record_is_found_by_the_digest_and_the_file_is_named(model: Path) -> None:
    weights = published.sha256(model / "model.safetensors")
    published.edit(model, lambda d: d["files"][1].update(digest="sha256:" + "a" * 64))
    report = of(model)
    assert (report.exit_code, report.reason, report.digest) == (66, "ManifestTampered", None)
    assert "was changed after it was published: its files add up to sha256:" in report.message
    assert f"model.safetensors: expected sha256:{'a' * 64}, found {weights}" in report.message


def test_records_and_digest_changed_together_are_found_by_the_expected_digest(model: Path) -> None:
    digest = published_digest(model)
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    published.commit(model)
    assert of(model).exit_code == 0
    report = of(model, expectedDigest=digest)
    assert (report.exit_code, report.reason) == (66, "ManifestTampered")


def test_a_changed_summary_does_not_hide_a_failed_gate_line(model: Path) -> None:
    published.edit(model, lambda d: d.update(gate=[BAD_LINE], gatePassed=True))
    assert of(model).reason == "GateFailed"


def test_the_failed_line_of_the_gate_is_named(tmp_path: Path) -> None:
    good = {"metric": "loss", "passed": True, "message": "loss 1 <= max 2"}
    digest = published.publish(tmp_path / "model", gate=[good, BAD_LINE], gatePassed=False)
    report = of(tmp_path / "model")
    assert (report.exit_code, report.reason, report.digest, report.gate_passed) == (76, "GateFailed", digest, False)
    assert "did not pass its gate: perplexity 9 > max 5; serve another one" in report.message
    assert "loss 1" not in report.message


def test_a_failed_gate_may_be_accepted(tmp_path: Path) -> None:
    published.publish(tmp_path / "model", gate=[BAD_LINE], gatePassed=False)
    report = of(tmp_path / "model", requireGate=False)
    assert (report.exit_code, report.gate_passed) == (0, False)
    assert "its gate did not pass" in report.message


@pytest.mark.parametrize(("kind", "words"), [("Scorer", "a reward model"), ("Classifier", "a classifier, which sorts")])
def test_a_model_that_writes_nothing_is_not_served(tmp_path: Path, kind: str, words: str) -> None:
    published.publish(tmp_path / "model", kind=kind)
    report = of(tmp_path / "model")
    assert (report.exit_code, report.reason) == (64, "NotGenerative")
    assert "AutoModelForSequenceClassification" in report.message
    assert words in report.message


def test_an_adapter_cannot_be_served_by_itself(tmp_path: Path) -> None:
    published.publish(tmp_path / "model", kind="Adapter")
    report = of(tmp_path / "model")
    assert (report.exit_code, report.reason) == (64, "AdapterOnly")
    assert "publish with output.merge: true" in report.message


def remove_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def cut_weights(model: Path) -> None:
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content[:-1])


def other_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").write_text("[]")


@pytest.mark.parametrize(
    ("damage", "reason", "words"),
    [
        (remove_weights, "FileMissing", "model.safetensors is in the manifest and not in storage"),
        (cut_weights, "FileSize", "bytes, found"),
        (other_tokenizer, "FileTampered", "tokenizer.json: expected sha256:"),
    ],
)
def test_a_file_that_is_not_as_published_is_named(
    model: Path, damage: Callable[[Path], None], reason: str, words: str
) -> None:
    damage(model)
    report = of(model)
    assert (report.exit_code, report.reason) == (66, reason)
    assert words in report.message
    assert report.digest is not None


def test_large_files_are_left_for_fetch_to_hash(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other_tokenizer(model)
    assert of(model).exit_code == 66
    monkeypatch.setattr(module, "SMALL", 1)
    assert of(model).exit_code == 0


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    published.publish(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"\xff" * 64)
    published.commit(tmp_path / "model")
    report = of(tmp_path / "model")
    assert (report.exit_code, report.reason) == (66, "ModelInvalid")
    assert "model.safetensors that cannot be read" in report.message


def test_a_manifest_that_is_not_there_is_waited_for(model: Path) -> None:
    (model / MANIFEST).unlink()
    report = of(model)
    assert (report.exit_code, report.reason) == (69, "ManifestMissing")
    assert f"file://{model}/MANIFEST.json" in report.message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", "Invalid JSON"),
        ('{"format": 1, "step": 3}', "kind: Field required"),
    ],
)
def test_a_manifest_of_something_else_is_refused(model: Path, content: str, words: str) -> None:
    (model / MANIFEST).write_text(content)
    report = of(model)
    assert (report.exit_code, report.reason) == (66, "ManifestInvalid")
    assert words in report.message


def twice(document: dict[str, Any]) -> None:
    document["files"].append(document["files"][0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["files"][0].update(path="../../etc/passwd"), "the part '..' is not a name"),
        (lambda d: d["files"][0].update(path="/etc/passwd"), "the path is absolute"),
        (lambda d: d["files"][0].update(digest="xxh3:" + "0" * 32), "expected sha256"),
        (twice, "it stands there twice"),
    ],
)
def test_a_manifest_that_means_harm_is_refused(
    model: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    published.edit(model, change)
    report = of(model)
    assert (report.exit_code, report.reason) == (66, "ManifestInvalid")
    assert words in report.message


def test_a_secret_that_is_not_there_is_waited_for(model: Path) -> None:
    report = of(model, secret="model-s3")
    assert (report.exit_code, report.reason) == (69, "SecretMissing")
    assert "'model-s3'" in report.message


def test_an_endpoint_that_is_not_there_is_waited_for_without_secrets_in_the_words(tmp_path: Path) -> None:
    secret = tmp_path / "secrets" / "s3"
    secret.mkdir(parents=True)
    for key, value in {
        "AWS_ACCESS_KEY_ID": "id-of-nobody",
        "AWS_SECRET_ACCESS_KEY": "never-in-a-log",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }.items():
        (secret / key).write_text(value)
    report = run(published.config("s3://bucket/model", secret="s3"), tmp_path)
    assert (report.exit_code, report.reason) == (69, "StorageUnreachable")
    assert "(used: Secret 's3')" in report.message
    assert "never-in-a-log" not in report.message


def test_a_claim_that_is_not_mounted_is_waited_for(tmp_path: Path) -> None:
    report = run(published.config("pvc://models/support"), tmp_path)
    assert (report.exit_code, report.reason) == (69, "StorageMissing")


def test_a_uri_of_no_known_kind_is_the_users_mistake(tmp_path: Path) -> None:
    report = run(published.config("oci://registry.example/model"), tmp_path)
    assert (report.exit_code, report.reason) == (64, "InvalidSpec")


def command(config: str, name: str, root: Path) -> "subprocess.CompletedProcess[str]":
    """In a process where the small image's absences are absent too."""
    (root / "serve.json").write_text(config)
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'tokenizers', 'safetensors', 'peft', 'numpy', 'jinja2'):\n"
        "    sys.modules[name] = None\n"
        "from finetune_trainer.__main__ import main\n"
        f"main([{name!r}, '--config', {str(root / 'serve.json')!r}])\n"
    )
    return subprocess.run([sys.executable, "-c", program], env=dict(os.environ), capture_output=True, text=True)


def test_it_runs_in_the_small_image(model: Path) -> None:
    done = command(published.config(f"file://{model}").model_dump_json(by_alias=True), "verify", model.parent)
    assert done.returncode == 0, done.stderr
    report = VerifyReport.model_validate_json((model.parent / "termination").read_text())
    assert report.reason == "Verified"


@pytest.mark.parametrize("name", ["verify", "fetch", "check"])
def test_a_broken_config_is_answered_in_words(tmp_path: Path, name: str) -> None:
    done = command('{"namespace": "team-a", "name": "support"}', name, tmp_path)
    assert done.returncode == 64, done.stderr
    report = VerifyReport.model_validate_json((tmp_path / "termination").read_text())
    assert "modelUri: Field required" in report.message
