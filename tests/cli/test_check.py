"""Mistakes are named with file, line, field and a way out, all of them at once, in the API server's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_cli.check import check
from finetune_cli.manifests import read
from finetune_cli.rules import broken, defaulted, schema
from finetune_trainer.common.errors import RunError
from tests.cli.manifests import JOB, write
from tests.docs.manifests import BAD, GOOD, mistake

ABSOLUTE = JOB.replace("{uri: model}", "{uri: file:///m}").replace("{uri: data/train.jsonl}", "{uri: file:///d}")
REFUSED = [p for p in BAD if mistake(p).answered_by == "api-server"]
REWORDED = {"negative-rank": "lora.rank: -8: must be greater than or equal to 1", "oci-model": "spec.model.uri"}
"""Where the API server's own validation speaks, not a message of ours."""


def problems(folder: Path, text: str) -> list[str]:
    return [str(p).removeprefix(f"{folder}/") for m in read([str(write(folder, text))]) for p in check(m)]


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.stem)
def test_every_example_is_valid(path: Path) -> None:
    assert [str(p) for m in read([str(path)]) for p in check(m)] == []


@pytest.mark.parametrize("path", REFUSED, ids=lambda p: p.stem)
def test_what_the_api_server_refuses_is_refused_here(path: Path) -> None:
    found = [str(p) for m in read([str(path)]) for p in check(m)]
    expected = REWORDED.get(path.stem, mistake(path).expect)
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize(
    "path", [p for p in BAD if p not in REFUSED and p.stem != "falling-weights"], ids=lambda p: p.stem
)
def test_what_is_found_out_later_is_not_refused_here(path: Path) -> None:
    assert [str(p) for m in read([str(path)]) for p in check(m)] == []


def test_a_good_one_has_no_problem(tmp_path: Path) -> None:
    assert problems(tmp_path, ABSOLUTE) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("maxSteps: 20", "maxStep: 20", 'job.yaml:12: unknown field "spec.training.maxStep"; did you mean maxSteps?'),
        ("maxLength: 64", "maxSteps: 9", "maxSteps belongs to spec.training"),
        ("type: LoRA", "type: Lora", "Bottleneck; did you mean LoRA?"),
        ("maxSteps: 20", "maxSteps: many", "job.yaml:12: spec.training.maxSteps: 'many'"),
        ('"5e-3"', "5e-3", 'job.yaml:14: spec.training.learningRate: 0.005 is a number, and a text is expected; write "0.005"'),
        (
            "  resources:",
            "  objective: {type: DPO}\n  parallelism: {strategy: ZeRO2}\n  resources:",
            "not been proven under ZeRO",
        ),
        (
            "    precision: FP32",
            "    precision: FP32\n    regularization: {neftuneAlpha: \"5\"}\n  objective: {type: DPO}",
            "the base model that DPO compares with",
        ),
        (
            "    precision: FP32",
            "    precision: FP16\n  parallelism: {strategy: ZeRO1}",
            "FP16's loss scale has not been proven under ZeRO",
        ),
        ("    precision: FP32", "    kernels: Liger", "Liger's kernels need a GPU; set training.kernels: Torch"),
        ("    precision: FP32", "    compile: true\n    kernels: Liger", "compile makes kernels of its own"),
        (
            "    precision: FP32",
            "    compile: true\n    activationCheckpointing: Selective",
            "compile chooses itself what it keeps of a layer",
        ),
        (
            "    precision: FP32",
            "    compile: true\n  parallelism: {strategy: ZeRO1}",
            "compile has not been proven under ZeRO",
        ),
        (
            "    precision: FP32",
            "    precision: FP32\n    regularization: {labelSmoothing: \"0.1\"}\n  objective: {type: DPO}",
            "label smoothing belongs to objective.type SFT and Pretrain",
        ),
        ("file:///m", "model", "a relative path is understood by `finetune run`"),
        ("{gpusPerNode: 0}", "{limits: {memory: 3gb}}", "spec.resources.limits.memory: '3gb' is not a quantity"),
        ("maxSteps: 20", "maxSteps: 20\n    maxSteps: 30", "job.yaml:13: spec.training.maxSteps is written twice"),
        ("maxSteps: 20", "maxSteps: 20\n    epochs: 2", "spec.training: set either epochs or maxSteps, not both"),
        ("name: router", "name: 9lives", "metadata.name must start with a letter"),
        ("name: router, ", "", "metadata.name: expected a name"),
        ("method: {type: LoRA, lora: {rank: 8, alpha: 16}}", "", "spec.method: is required"),
        ("kind: FineTuneJob", "kind: FinetuneJob", "did you mean FineTuneJob?"),
        ("dev/v1alpha1", "dev/v1", "write finetune.dev/v1alpha1"),
        ("spec:", "sepc:", 'unknown field "sepc"; did you mean spec?'),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in ABSOLUTE
    found = problems(tmp_path, ABSOLUTE.replace(old, new, 1))
    assert any(expected in problem for problem in found), found


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = ABSOLUTE.replace("maxSteps: 20", "maxStep: 20").replace("rank: 8", "rank: 0")
    assert len(problems(tmp_path, text)) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "job.yaml:1: is not YAML"),
        ("- a", "job.yaml:1: expected a Kubernetes object"),
        ("", "no document in it"),
    ],
)
def test_unreadable_files(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(RunError, match=expected):
        problems(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No such file"):
        read([str(tmp_path / "x.yaml")])


def test_defaults_are_written_in_before_rules_are_asked() -> None:
    root = schema("FineTuneJob")
    filled = defaulted(root, {"metadata": {"name": "a"}, "spec": {"method": {"type": "LoRA"}}})
    assert filled["spec"]["checkpoint"]["keep"]["last"] == 2
    assert list(broken(root, filled)) == []


def test_qlora_is_refused_in_fp16(tmp_path: Path) -> None:
    text = ABSOLUTE.replace("type: LoRA", "type: QLoRA")
    assert problems(tmp_path, text) == []
    (told,) = problems(tmp_path, text.replace("precision: FP32", "precision: FP16"))
    assert "QLoRA's codes are made of values in BF16" in told
