"""A teacher, or a reward model, is looked at as the base model is: with its own credentials, before a GPU is taken,
in words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune_api import runconfig as rc
from finetune_trainer.data.top_k import write
from finetune_trainer.data.top_k_header import Header
from tests.trainer import small
from tests.trainer.test_model_inspect import CONFIG
from tests.trainer.test_preflight_main import model_folder, run

FIELD = "spec.objective.distill.teacher.uri"
JUDGE = "spec.objective.rloo.rewards[1].model.uri"
TOKENS = {"a": 0, "b": 1, "c": 2}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a valid model, a valid teacher and valid data."""
    monkeypatch.setenv(rc.TERMINATION_LOG_ENV, str(tmp_path / "termination"))
    monkeypatch.setenv(rc.SECRETS_DIR_ENV, str(tmp_path / "secrets"))
    for name in ("base", "teacher"):
        tokenizer(model_folder(tmp_path / name), TOKENS)
    small.write_jsonl(tmp_path / "train.jsonl", small.conversations(80))
    return tmp_path


def tokenizer(folder: Path, tokens: dict[str, int], **more: Any) -> None:
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": tokens}, **more}))


def distilled(root: Path, **fields: Any) -> dict[str, Any]:
    teacher = {"uri": f"file://{root}/teacher", **fields.pop("teacher", {})}
    return {"objective": {"type": "Distill", "distill": {"teacher": teacher, **fields}}}


def test_a_good_teacher_is_accepted_and_pinned(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, taught = run(small.config(job), job), run(small.config(job, distilled(job)), job)
    assert (taught.exit_code, taught.reason) == (0, "Accepted")
    assert plain.teacher_revision is None
    assert taught.teacher_revision is not None
    assert taught.run_key != plain.run_key
    assert "teacher    LlamaForCausalLM" in capsys.readouterr().out


def test_the_run_key_is_another_for_another_teacher_and_the_same_for_another_secret(job: Path) -> None:
    first = run(small.config(job, distilled(job)), job).run_key
    (job / "secrets" / "other").mkdir(parents=True)
    (job / "secrets" / "other" / "AWS_ACCESS_KEY_ID").write_text("x")
    named = distilled(job, teacher={"secretRef": {"name": "other"}})
    assert run(small.config(job, named), job).run_key == first
    (job / "teacher" / "generation_config.json").write_text("{}")
    assert run(small.config(job, distilled(job)), job).run_key != first


def test_the_teacher_is_part_of_the_estimate(job: Path) -> None:
    plain, taught = run(small.config(job), job).estimate, run(small.config(job, distilled(job)), job).estimate
    assert plain is not None
    assert taught is not None
    assert plain.memory is not None
    assert taught.memory is not None
    assert taught.memory.weights == plain.memory.weights + 4 * plain.parameters
    assert taught.memory.logits == 2 * plain.memory.logits
    assert (taught.parameters, taught.checkpoint_bytes) == (plain.parameters, plain.checkpoint_bytes)


def test_a_teacher_that_is_not_there_is_waited_for(job: Path) -> None:
    shutil.rmtree(job / "teacher")
    report = run(small.config(job, distilled(job)), job)
    assert (report.exit_code, report.reason, report.field) == (69, "WaitingForModel", FIELD)


def test_a_teachers_missing_secret_is_named(job: Path) -> None:
    report = run(small.config(job, distilled(job, teacher={"secretRef": {"name": "teacher-s3"}})), job)
    assert (report.exit_code, report.reason) == (69, "WaitingForSecret")
    assert "'teacher-s3' (spec.objective.distill.teacher.secretRef)" in report.message


def test_a_teacher_of_another_vocabulary_is_refused(job: Path) -> None:
    tokenizer(job / "teacher", {"a": 0, "b": 2, "c": 1})
    report = run(small.config(job, distilled(job)), job)
    assert (report.exit_code, report.reason, report.field) == (64, "InvalidModel", FIELD)
    assert "gives 2 tokens other numbers, 'b' for example is 2 there and 1 in the base model" in report.message


def test_a_teacher_that_tells_more_tokens_apart_is_refused(job: Path) -> None:
    config = json.loads((job / "teacher" / "config.json").read_text())
    (job / "teacher" / "config.json").write_text(json.dumps(config | {"vocab_size": 77}))
    report = run(small.config(job, distilled(job)), job)
    assert (report.exit_code, report.field) == (64, FIELD)
    assert "tells 77 tokens apart" in report.message


def test_a_teacher_that_is_no_model_is_refused(job: Path) -> None:
    (job / "teacher" / "model.safetensors").rename(job / "teacher" / "pytorch_model.bin")
    report = run(small.config(job, distilled(job)), job)
    assert (report.exit_code, report.reason, report.field) == (64, "InvalidModel", FIELD)


def test_a_gate_may_ask_for_what_sft_measures(job: Path) -> None:
    gate = {"evaluation": {"gate": [{"metric": "perplexity", "relativeTo": "Base"}]}}
    assert run(small.config(job, distilled(job) | gate), job).exit_code == 0
    gate = {"evaluation": {"gate": [{"metric": "rewardMargin", "min": "0"}]}}
    assert run(small.config(job, distilled(job) | gate), job).reason == "GateNotMeasured"


def answered(root: Path, vocabulary: int = CONFIG["vocab_size"], **fields: Any) -> dict[str, Any]:
    (root / "answers").mkdir(exist_ok=True)
    said = np.zeros((1, 4), dtype=np.int32), np.zeros((1, 5), dtype=np.float32)
    write(root / "answers", 0, Header(4, vocabulary, "1"), [(7, said)])
    return {"objective": {"type": "Distill", "distill": {"topK": {"uri": f"file://{root}/answers"}, **fields}}}


def test_a_teachers_answers_stand_for_it(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, taught = run(small.config(job), job), run(small.config(job, answered(job)), job)
    assert (taught.exit_code, taught.reason) == (0, "Accepted")
    assert taught.teacher_revision is not None
    assert taught.run_key != plain.run_key
    assert "the 4 likeliest tokens at each target, 1 files" in capsys.readouterr().out
    assert taught.estimate is not None
    assert plain.estimate is not None
    assert taught.estimate.memory is not None
    assert plain.estimate.memory is not None
    assert taught.estimate.memory.weights == plain.estimate.memory.weights


def test_answers_that_are_not_there_or_not_about_this_are_refused(job: Path) -> None:
    report = run(small.config(job, answered(job, temperature="2")), job)
    assert (report.exit_code, report.reason) == (64, "InvalidSpec")
    assert "topK: it was asked at temperature 1" in report.message
    report = run(small.config(job, answered(job, vocabulary=3)), job)
    assert "its teacher tells 3 tokens apart" in report.message
    wanted = answered(job)
    (job / "answers" / "top-k-00000.safetensors").write_bytes(b"no")
    report = run(small.config(job, wanted), job)
    assert (report.exit_code, report.field) == (64, "spec.objective.distill.topK.uri")
    (job / "answers" / "top-k-00000.safetensors").unlink()
    report = run(small.config(job, wanted), job)
    assert (report.exit_code, report.reason) == (69, "WaitingForDataset")


@pytest.fixture
def judged(job: Path) -> Path:
    """With a valid reward model in place of the teacher."""
    become_scorer(job / "teacher", labels=1)
    return job


def become_scorer(folder: Path, labels: int) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaForSequenceClassification"]}))
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("lm_head.weight", None)
    tensors["score.weight"] = torch.zeros(labels, config["hidden_size"])
    save_file(tensors, folder / "model.safetensors")


def rewarded(root: Path, **model: Any) -> dict[str, Any]:
    judge = {"type": "Model", "model": {"uri": f"file://{root}/teacher", **model}}
    policy = {"rewards": [{"type": "Number"}, judge], "generations": 2, "maxNewTokens": 4}
    return {"objective": {"type": "RLOO", "rloo": policy}, "data": {"onOverflow": "Drop"}}


def test_a_good_reward_model_is_accepted_and_pinned(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(small.config(judged, rewarded(judged)), judged)
    assert (first.exit_code, first.reason) == (0, "Accepted"), first.message
    assert first.teacher_revision is not None
    assert "judge      LlamaForSequenceClassification" in capsys.readouterr().out
    (judged / "teacher" / "generation_config.json").write_text("{}")
    assert run(small.config(judged, rewarded(judged)), judged).run_key != first.run_key


def test_a_reward_model_is_part_of_the_estimate(judged: Path) -> None:
    alone = rewarded(judged)
    alone["objective"]["rloo"]["rewards"].pop()
    plain, asked = (run(small.config(judged, changes), judged).estimate for changes in (alone, rewarded(judged)))
    assert plain is not None
    assert asked is not None
    assert plain.memory is not None
    assert asked.memory is not None
    scorer = sum(tensor.numel() for tensor in load_file(judged / "teacher" / "model.safetensors").values())
    assert asked.memory.weights == plain.memory.weights + 4 * scorer
    assert asked.memory.logits == plain.memory.logits


def test_a_reward_model_that_is_not_published_yet_is_waited_for(judged: Path) -> None:
    shutil.rmtree(judged / "teacher")
    report = run(small.config(judged, rewarded(judged)), judged)
    assert (report.exit_code, report.reason, report.field) == (69, "WaitingForModel", JUDGE)


def test_a_reward_models_missing_secret_is_named(judged: Path) -> None:
    report = run(small.config(judged, rewarded(judged, secretRef={"name": "judge-s3"})), judged)
    assert (report.exit_code, report.reason) == (69, "WaitingForSecret")
    assert "'judge-s3' (spec.objective.rloo.rewards[1].model.secretRef)" in report.message


def test_a_model_that_writes_gives_no_rewards(job: Path) -> None:
    report = run(small.config(job, rewarded(job)), job)
    assert (report.exit_code, report.reason, report.field) == (64, "InvalidModel", JUDGE)
    assert "is a LlamaForCausalLM; a reward model is expected" in report.message


def test_a_head_that_was_never_trained_is_refused(judged: Path) -> None:
    tensors = load_file(judged / "teacher" / "model.safetensors")
    del tensors["score.weight"]
    save_file(tensors, judged / "teacher" / "model.safetensors")
    report = run(small.config(judged, rewarded(judged)), judged)
    assert (report.exit_code, report.reason, report.field) == (64, "InvalidModel", JUDGE)
    assert "its scores would be random" in report.message


def test_a_classifier_is_no_reward_model(job: Path) -> None:
    become_scorer(job / "teacher", labels=3)
    report = run(small.config(job, rewarded(job)), job)
    assert (report.exit_code, report.field) == (64, JUDGE)
    assert "gives 3 numbers for a text" in report.message


def test_a_reward_model_of_another_vocabulary_is_refused(judged: Path) -> None:
    tokenizer(judged / "teacher", {"a": 0, "b": 2, "c": 1})
    report = run(small.config(judged, rewarded(judged)), judged)
    assert (report.exit_code, report.reason, report.field) == (64, "InvalidModel", JUDGE)
    assert "cannot judge what this model writes" in report.message
    assert "gives 2 tokens other numbers" in report.message
