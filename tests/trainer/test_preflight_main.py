"""Each thing that can be wrong with a job is answered by preflight in words, at the right field, with the right code."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_api import runconfig as rc
from finetune_api.layout import MANIFEST
from finetune_api.reports import PreflightReport
from finetune_api.runconfig import RunConfig
from finetune_trainer.preflight.main import preflight
from tests.trainer import small
from tests.trainer.test_model_inspect import CONFIG, weights


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a valid model and valid data."""
    monkeypatch.setenv(rc.TERMINATION_LOG_ENV, str(tmp_path / "termination"))
    monkeypatch.setenv(rc.SECRETS_DIR_ENV, str(tmp_path / "secrets"))
    model_folder(tmp_path / "base")
    small.write_jsonl(tmp_path / "train.jsonl", small.conversations(80))
    return tmp_path


def model_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(
        weights(
            {
                "model.embed_tokens.weight": [32, 8],
                "model.layers.0.self_attn.q_proj.weight": [8, 8],
                "model.layers.0.mlp.up_proj.weight": [16, 8],
                "model.norm.weight": [8],
                "lm_head.weight": [32, 8],
            }
        )
    )
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    return folder


def run(config: RunConfig, root: Path) -> PreflightReport:
    code = preflight(config)
    report = PreflightReport.model_validate_json((root / "termination").read_text())
    assert report.exit_code == code
    return report


def test_a_good_job_is_accepted_with_all_the_operator_needs(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(small.config(job), job)
    assert (report.exit_code, report.reason) == (0, "Accepted")
    assert report.run_key is not None
    assert len(report.run_key) == 16
    assert report.model_revision is not None
    assert report.data_fingerprint is not None
    assert report.sampled_records == 80
    assert report.published is None
    assert report.estimate is not None
    assert report.estimate.parameters == 2 * 32 * 8 + 8 * 8 + 16 * 8 + 8
    assert report.estimate.trainable_parameters == 4 * (8 + 8) + 4 * (16 + 8)
    assert "80 valid in" in capsys.readouterr().out


def test_the_run_key_is_the_same_again_and_another_for_other_data(job: Path) -> None:
    first, again = run(small.config(job), job), run(small.config(job), job)
    assert first.run_key == again.run_key
    small.write_jsonl(job / "train.jsonl", small.conversations(81))
    assert run(small.config(job), job).run_key != first.run_key


def test_a_run_id_makes_another_run(job: Path) -> None:
    assert run(small.config(job), job).run_key != run(small.config(job, {"runId": "again"}), job).run_key


def gated(**changes: Any) -> dict[str, Any]:
    return small.merged({"evaluation": {"gate": [{"metric": "exactMatch", "min": "0.9"}]}}, changes)


@pytest.mark.parametrize(
    ("spec", "field", "reason", "words"),
    [
        (
            gated(evaluation={"samples": {"count": 0}}),
            "spec.evaluation.gate[0]",
            "GateNotMeasured",
            "evaluation.samples.count is 0",
        ),
        (
            gated(data={"validation": {"percent": 0}}),
            "spec.evaluation.gate[0]",
            "GateNotMeasured",
            "nothing is held out",
        ),
        (
            {"evaluation": {"perplexity": False, "gate": [{"metric": "loss", "max": "1"}]}},
            "spec.evaluation.gate[0]",
            "GateNotMeasured",
            "evaluation.perplexity is false",
        ),
        (
            {"training": {"earlyStopping": {"patience": 2}}, "data": {"validation": {"percent": 0}}},
            "spec.training.earlyStopping",
            "NothingHeldOut",
            "remove training.earlyStopping",
        ),
        (
            {"method": {"lora": {"targetModules": ["q_proj", "query"]}}},
            "spec.method.lora.targetModules",
            "LoRATargetsNotFound",
            "no module 'query'; its linear layers are q_proj, up_proj",
        ),
        (
            {"training": {"globalBatchSize": 7}, "resources": {"nodes": 2}},
            "spec.training.globalBatchSize",
            "InvalidSpec",
            "2 processes must share it equally",
        ),
    ],
)
def test_a_spec_that_cannot_work_is_64(job: Path, spec: dict[str, Any], field: str, reason: str, words: str) -> None:
    report = run(small.config(job, spec), job)
    assert (report.exit_code, report.reason, report.field) == (64, reason, field)
    assert words in report.message


def only_a_pickle(root: Path) -> None:
    (root / "base" / "model.safetensors").rename(root / "base" / "pytorch_model.bin")


def no_config(root: Path) -> None:
    (root / "base" / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [(only_a_pickle, "pytorch_model.bin, a pickle, which can run code"), (no_config, "has no config.json")],
)
def test_a_directory_that_is_no_model_is_64(job: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(job)
    report = run(small.config(job), job)
    assert (report.exit_code, report.reason, report.field) == (64, "InvalidModel", "spec.model.uri")
    assert words in report.message


def test_a_model_that_is_not_there_is_waited_for(job: Path) -> None:
    shutil.rmtree(job / "base")
    report = run(small.config(job), job)
    assert (report.exit_code, report.reason, report.field) == (69, "WaitingForModel", "spec.model.uri")
    model_folder(job / "base")
    assert run(small.config(job), job).exit_code == 0


def test_a_dataset_that_is_not_there_is_waited_for(job: Path) -> None:
    (job / "train.jsonl").unlink()
    report = run(small.config(job), job)
    assert (report.exit_code, report.reason, report.field) == (69, "WaitingForDataset", "spec.data.train[0].uri")
    assert f"nothing is stored at file://{job}/train.jsonl" in report.message


def test_missing_secrets_are_all_named_at_once(job: Path) -> None:
    data = {"train": [{"uri": f"file://{job}/train.jsonl", "secretRef": {"name": "data-s3"}}]}
    config = small.config(job, {"model": {"secretRef": {"name": "model-s3"}}, "data": data}, runs_secret="store")
    (job / "secrets" / "store").mkdir(parents=True)
    (job / "secrets" / "store" / "AWS_ACCESS_KEY_ID").write_text("x")
    (job / "secrets" / "data-s3" / "..data").mkdir(parents=True)
    report = run(config, job)
    assert (report.exit_code, report.reason, report.field) == (69, "WaitingForSecret", "spec.model.secretRef")
    assert "'model-s3' (spec.model.secretRef), 'data-s3' (spec.data.train[0].secretRef)" in report.message
    assert "'store'" not in report.message


def test_a_trackers_secret_is_asked_for_by_its_own_keys(job: Path) -> None:
    wanted = {"wandb": {"project": "p", "secretRef": {"name": "wandb"}}}
    report = run(small.config(job, {"tracking": wanted}), job)
    assert (report.reason, report.field) == ("WaitingForSecret", "spec.tracking.wandb.secretRef")
    assert "create it with the keys WANDB_API_KEY" in report.message


def test_a_malformed_line_17_is_66_with_file_line_and_reason(job: Path) -> None:
    documents = small.conversations(20)
    del documents[16]["messages"][1]["content"]  # type: ignore[misc]
    small.write_jsonl(job / "train.jsonl", documents)
    report = run(small.config(job), job)
    assert (report.exit_code, report.reason, report.field) == (66, "InvalidData", "spec.data.train[0]")
    assert report.message == (
        f"spec.data.train[0]: file://{job}/train.jsonl line 17: messages[1].content is missing; "
        "expected a non-empty string"
    )


def test_of_a_large_file_the_beginning_is_checked_and_said_so(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (job / "train.jsonl").open("a") as file:
        file.write("this line is beyond the sample\n")
    assert run(small.config(job), job).exit_code == 66
    monkeypatch.setattr("finetune_trainer.preflight.dataset.SAMPLE_PER_FILE", 1000)
    report = run(small.config(job), job)
    assert report.exit_code == 0
    assert report.sampled_records == (job / "train.jsonl").read_bytes()[:1000].count(b"\n")
    assert any(w.startswith("SampleOnly: ") for w in report.warnings)


def test_limit_checks_no_further_than_it_reads(job: Path) -> None:
    with (job / "train.jsonl").open("a") as file:
        file.write("beyond the limit\n")
    data = {"train": [{"uri": f"file://{job}/train.jsonl", "limit": 80}]}
    report = run(small.config(job, {"data": data}), job)
    assert (report.exit_code, report.sampled_records) == (0, 80)


def test_an_empty_dataset_is_66(job: Path) -> None:
    (job / "train.jsonl").write_text("\n\n")
    report = run(small.config(job), job)
    assert (report.exit_code, report.reason) == (66, "NoRecords")


def test_tolerated_records_are_a_warning(job: Path) -> None:
    with (job / "train.jsonl").open("a") as file:
        file.write("{\n")
    report = run(small.config(job, {"data": {"maxBadRecords": 1}}), job)
    assert report.exit_code == 0
    assert any(w.startswith("MalformedRecords: 1 ") for w in report.warnings)


def test_few_steps_are_a_warning(job: Path) -> None:
    report = run(small.config(job, {"training": {"maxSteps": 10}}), job)
    assert any(w.startswith("TooFewSteps: ") and "10 optimizer steps" in w for w in report.warnings)


def test_rows_longer_than_the_model_was_made_for_are_a_warning(job: Path) -> None:
    (job / "base" / "config.json").write_text(json.dumps({**CONFIG, "max_position_embeddings": 64}))
    report = run(small.config(job), job)
    (warning,) = [w for w in report.warnings if w.startswith("LongerThanModel: ")]
    assert "data.maxLength 128 is more than the 64 positions" in warning
    assert warning.endswith("set data.maxLength to 64 or less")
    fits = run(small.config(job, {"data": {"maxLength": 64}}), job)
    assert not [w for w in fits.warnings if "LongerThanModel" in w]


def test_what_is_written_counts_too(job: Path) -> None:
    (job / "base" / "config.json").write_text(json.dumps({**CONFIG, "max_position_embeddings": 160}))
    policy = {"type": "GRPO", "grpo": {"rewards": [{"type": "ExactMatch"}], "maxNewTokens": 64}}
    report = run(small.config(job, {"objective": policy, "data": {"onOverflow": "Drop"}}), job)
    (warning,) = [w for w in report.warnings if w.startswith("LongerThanModel: ")]
    assert "data.maxLength 128 and 64 tokens that are written" in warning
    assert "set data.maxLength to 96 or less" in warning


def test_rows_that_a_table_of_positions_has_no_place_for_are_refused(job: Path) -> None:
    (job / "base" / "config.json").write_text(json.dumps({**CONFIG, "max_position_embeddings": 64}))
    tensors = {"transformer.wpe.weight": [64, 8], "model.layers.0.self_attn.q_proj.weight": [8, 8]}
    (job / "base" / "model.safetensors").write_bytes(weights(tensors))
    report = run(small.config(job), job)
    assert (report.exit_code, report.field) == (64, "spec.data.maxLength")
    assert "each learned by itself; set data.maxLength to 64 or less" in report.message


def test_messages_for_a_model_without_a_chat_template_are_refused(job: Path) -> None:
    (job / "base" / "tokenizer_config.json").write_text("{}")
    report = run(small.config(job), job)
    assert (report.exit_code, report.reason) == (64, "NoChatTemplate")


def test_a_store_that_takes_no_writes_is_named(job: Path) -> None:
    (job / "runs").write_text("a file where the run directory should be")
    report = run(small.config(job), job)
    assert report.exit_code in (69, 74)
    assert f"file://{job}/runs" in report.message


def test_an_unreachable_endpoint_is_waited_for(job: Path) -> None:
    secret = job / "secrets" / "s3"
    secret.mkdir(parents=True)
    for key, value in {
        "AWS_ACCESS_KEY_ID": "id-of-nobody",
        "AWS_SECRET_ACCESS_KEY": "never-in-a-log",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }.items():
        (secret / key).write_text(value)
    report = run(small.config(job, runs_uri="s3://bucket/team-a/bot", runs_secret="s3"), job)
    assert (report.exit_code, report.reason) == (69, "StorageUnreachable")
    assert "s3://bucket" in report.message
    assert "(used: Secret 's3')" in report.message
    assert "never-in-a-log" not in report.message


def test_memory_on_cpu_is_held_against_the_pods_limit(job: Path) -> None:
    enough = run(small.config(job, {"resources": {"limits": {"memory": "8Gi"}}}), job)
    little = run(small.config(job, {"resources": {"limits": {"memory": "64Mi"}}}), job)
    assert enough.estimate is not None
    assert little.estimate is not None
    assert (enough.estimate.fits, little.estimate.fits) == ("True", "False")
    assert any("EstimateDoesNotFit: the job does not fit: about" in w for w in little.warnings)
    assert "EstimateDoesNotFit: the job does not fit: about" in little.message
    assert "EstimateDoesNotFit" not in enough.message


def test_what_does_not_fit_is_refused_where_the_policy_says_so(job: Path) -> None:
    policy = {"estimatePolicy": "Enforce"}
    refused = run(small.config(job, {"resources": policy | {"limits": {"memory": "64Mi"}}}), job)
    assert (refused.exit_code, refused.reason, refused.field) == (64, "EstimateDoesNotFit", "spec.resources")
    assert "per pod within spec.resources.limits.memory 64Mi" in refused.message
    assert run(small.config(job, {"resources": policy | {"limits": {"memory": "8Gi"}}}), job).exit_code == 0
    assert run(small.config(job, {"resources": policy}), job).exit_code == 0


def manifest(run_key: str, name: str = "support-bot") -> str:
    digest = "sha256:" + "0" * 64
    lineage = {
        "namespace": "team-a",
        "name": name,
        "uid": "u",
        "runKey": run_key,
        "modelUri": "file:///x",
        "modelRevision": "r",
        "dataFingerprint": "d",
        "checkpointStep": 1,
        "checkpointAttempt": 1,
        "trainableDigest": digest,
        "trainerVersion": "0",
        "seed": 1,
    }
    files = [{"path": "model.safetensors", "size": 1, "digest": digest}]
    return json.dumps(
        {"kind": "Merged", "digest": digest, "files": files, "gatePassed": True, "lineage": lineage, "at": "now"}
    )


def test_a_run_that_is_published_already_trains_nothing(job: Path) -> None:
    key = run(small.config(job), job).run_key
    place = job / "runs" / str(key) / "model"
    place.mkdir(parents=True)
    (place / MANIFEST).write_text(manifest(str(key)))
    report = run(small.config(job), job)
    assert (report.exit_code, report.reason) == (0, "AlreadyPublished")
    assert report.published is not None
    assert report.published.uri == f"file://{job}/runs/{key}/model"
    assert report.published.merged


def test_an_output_of_another_run_is_never_overwritten(job: Path) -> None:
    place = job / "out"
    place.mkdir()
    (place / MANIFEST).write_text(manifest("0123456789abcdef", "other-bot"))
    report = run(small.config(job, {"output": {"uri": f"file://{place}"}}), job)
    assert (report.exit_code, report.reason, report.field) == (64, "OutputTaken", "spec.output.uri")
    assert "team-a/other-bot (run 0123456789abcdef)" in report.message


def test_an_output_folder_with_other_files_is_refused(job: Path) -> None:
    small.write_jsonl(job / "out" / "thesis.txt", [])
    report = run(small.config(job, {"output": {"uri": f"file://{job}/out"}}), job)
    assert (report.exit_code, report.reason) == (64, "OutputTaken")
    assert "thesis.txt" in report.message


def test_it_needs_neither_torch_nor_transformers_nor_numpy(job: Path) -> None:
    """The small image has none of them."""
    (job / "run.json").write_text(small.config(job).model_dump_json(by_alias=True))
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'tokenizers', 'safetensors', 'peft', 'numpy', 'jinja2'):\n"
        "    sys.modules[name] = None\n"
        "from finetune_trainer.__main__ import main\n"
        f"main(['preflight', '--config', {str(job / 'run.json')!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "run key" in done.stdout


def test_fences_of_a_former_job_in_the_run_directory_are_reported(job: Path) -> None:
    config = small.config(job)
    first = run(config, job)
    assert first.highest_fence == 0
    run_uri = config.model_copy(update={"run_key": first.run_key}).run_uri
    for attempt in (1, 2, 10):
        fence = Path(run_uri.removeprefix("file://")) / "fence" / str(attempt)
        fence.parent.mkdir(parents=True, exist_ok=True)
        fence.write_text("{}")
    assert run(config, job).highest_fence == 10


def test_a_custom_jobs_storage_is_checked_and_its_data_left_to_the_script(job: Path) -> None:
    spec = {
        "model": {"uri": f"file://{job / 'base'}"},
        "data": {"train": [{"uri": f"file://{job / 'train.jsonl'}"}]},
        "trainer": {"type": "Custom", "image": "own:1", "custom": {"command": ["python", "/opt/train.py"]}},
    }
    wanted = small.config(job)
    custom = wanted.model_copy(update={"spec": type(wanted.spec).model_validate(spec)})
    (job / "train.jsonl").write_text("whatever the script reads\n")
    shutil.rmtree(job / "base")
    assert (run(custom, job).exit_code, run(custom, job).reason) == (69, "WaitingForModel")
    (job / "base").mkdir()
    (job / "base" / "weights").write_text("not one of Hugging Face's")
    report = run(custom, job)
    assert (report.exit_code, report.reason, report.estimate) == (0, "Accepted", None)
    assert report.run_key
    (job / "train.jsonl").unlink()
    assert run(custom, job).reason == "WaitingForDataset"
