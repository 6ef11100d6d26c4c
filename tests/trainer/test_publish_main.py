"""Publishing as a whole: what lands in the store, what blocks it, and that every stage can be repeated."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_api.layout import GATE, MANIFEST, METRICS
from finetune_api.manifests import ModelManifest
from finetune_artifacts import digest_file
from finetune_trainer.model.published import MARKER
from finetune_trainer.publish import build, main, prepare, upload
from tests.trainer import small
from tests.trainer.finished import RUN_KEY, commit_checkpoint, finished, run, trained

# peft 0.21 reads an attribute that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def output(root: Path) -> Path:
    return root / "runs" / RUN_KEY / "model"


def manifest(folder: Path) -> ModelManifest:
    return ModelManifest.model_validate_json((folder / MANIFEST).read_text())


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(5, 45).unsqueeze(0)).logits


def test_a_lora_run_becomes_a_merged_model_that_plain_transformers_loads(root: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = finished(root)
    report = run(config, root)
    assert (report.exit_code, report.reason, report.gate_passed) == (0, "Published", True)
    assert set(report.metrics) == {"loss", "perplexity", "exactMatch"}
    assert all(m.base is not None for m in report.metrics.values())
    folder = output(root)
    merged = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert torch.allclose(logits(merged), logits(trained(config, 0.02)), atol=1e-4)
    assert not torch.allclose(logits(merged), logits(small.model()), atol=1e-2)
    assert AutoTokenizer.from_pretrained(folder).chat_template == small.tokenizer().chat_template
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        assert (folder / name).read_bytes() == (root / "base" / name).read_bytes()


@pytest.mark.slow
def test_a_published_model_may_be_the_base_of_the_next_one(root: Path) -> None:
    config = finished(root)
    for name in (MANIFEST, "README.md"):
        (root / "base" / name).write_text("{}")
    (root / "base" / "LICENSE").write_text("free")
    report = run(config, root)
    assert report.exit_code == 0, report.message
    assert manifest(output(root)).lineage.run_key == RUN_KEY
    assert (output(root) / "LICENSE").exists()
    assert not (output(root) / "README.md").exists()


def test_the_manifest_names_every_file_with_its_digest_and_where_it_came_from(root: Path) -> None:
    config = finished(root)
    report = run(config, root)
    found = manifest(output(root))
    on_disk = {p.name for p in output(root).iterdir()} - {MANIFEST}
    assert {f.path for f in found.files} == on_disk
    assert MARKER not in on_disk
    assert all(digest_file(output(root) / f.path, "sha256") == f.digest for f in found.files)
    assert (found.kind, found.gate_passed) == ("Merged", True)
    assert (found.lineage.run_key, found.lineage.checkpoint_step) == (RUN_KEY, 10)
    assert report.output is not None
    assert (report.output.digest, report.output.merged) == (found.digest, True)
    assert report.output.uri == f"file://{output(root)}"


@pytest.mark.slow
def test_without_merge_an_adapter_is_published(root: Path) -> None:
    from peft import PeftModel

    config = finished(root, {"output": {"merge": False}})
    report = run(config, root)
    assert report.exit_code == 0
    folder = output(root)
    assert manifest(folder).kind == "Adapter"
    assert not (folder / "model.safetensors").exists()
    written = json.loads((folder / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == config.spec.model.uri
    loaded = PeftModel.from_pretrained(small.model(), str(folder))
    assert torch.allclose(logits(loaded), logits(trained(config, 0.02)), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "kind"), [({"method": small.FULL}, "Full"), ({}, "Merged")])
def test_a_bf16_base_stays_bf16(root: Path, spec: dict[str, Any], kind: str) -> None:
    from safetensors.torch import load_file

    report = run(finished(root, spec, dtype="bfloat16"), root)
    assert report.exit_code == 0, report.message
    assert manifest(output(root)).kind == kind
    published, base = (load_file(folder / "model.safetensors") for folder in (output(root), root / "base"))
    assert {n: (t.dtype, t.shape) for n, t in published.items()} == {n: (t.dtype, t.shape) for n, t in base.items()}


IMPOSSIBLE = {"evaluation": {"gate": [{"metric": "exactMatch", "min": "0.9"}]}}


def test_a_failed_gate_blocks_and_relaxing_it_publishes_without_a_second_evaluation(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = finished(root, IMPOSSIBLE)
    report = run(config, root)
    assert (report.exit_code, report.reason, report.gate_passed) == (76, "GateFailed", False)
    assert report.message == "gate failed: exactMatch 0 < min 0.9"
    assert report.metrics["exactMatch"].final == 0
    assert not output(root).exists()
    run_dir = root / "runs" / RUN_KEY
    assert json.loads((run_dir / GATE).read_text())["passed"] is False
    before = json.loads((run_dir / METRICS).read_text())

    def never(*_args: object) -> None:
        raise AssertionError("evaluated a second time")

    monkeypatch.setattr("finetune_trainer.publish.evaluate.held_out_loss", never)
    monkeypatch.setattr("finetune_trainer.publish.evaluate.exact_match", never)
    again = run(config, root)
    assert (again.exit_code, again.stage) == (76, "Gate")
    relaxed = small.merged(config.spec.to_wire(), {"evaluation": {"gate": [{"metric": "exactMatch", "min": "0"}]}})
    published = run(config.model_copy(update={"spec": type(config.spec).model_validate(relaxed)}), root)
    assert published.exit_code == 0
    assert json.loads((run_dir / METRICS).read_text()) == before
    assert manifest(output(root)).metrics == report.metrics


@pytest.mark.slow
def test_other_evaluation_settings_are_evaluated_anew(root: Path) -> None:
    config = finished(root, IMPOSSIBLE)
    first = run(config, root)
    more = small.merged(config.spec.to_wire(), {"evaluation": {"samples": {"count": 6}}})
    second = run(config.model_copy(update={"spec": type(config.spec).model_validate(more)}), root)
    assert (first.metrics["exactMatch"].samples, second.metrics["exactMatch"].samples) == (4, 6)


@pytest.mark.slow
def test_warn_publishes_all_the_same_and_says_so(root: Path) -> None:
    report = run(finished(root, small.merged(IMPOSSIBLE, {"evaluation": {"onGateFailure": "Warn"}})), root)
    assert (report.exit_code, report.gate_passed) == (0, False)
    assert "exactMatch 0 < min 0.9 (published all the same: onGateFailure is Warn)" in report.message
    assert manifest(output(root)).gate_passed is False


@pytest.mark.slow
def test_a_second_publish_changes_nothing(root: Path) -> None:
    config = finished(root)
    first = run(config, root)
    before = {p.name: p.stat().st_mtime_ns for p in output(root).iterdir()}
    shutil.rmtree(root / "scratch")
    second = run(config, root)
    assert (second.exit_code, second.reason) == (0, "AlreadyPublished")
    assert second.output == first.output
    assert second.metrics == first.metrics
    assert {p.name: p.stat().st_mtime_ns for p in output(root).iterdir()} == before


def killed_while_uploading(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    def torn(_store: object, *_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("finetune_artifacts.local.LocalStore.upload_tree", torn)


def killed_before_the_manifest(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(upload, "lineage", torn)


def killed_after_the_manifest(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(upload, "published", torn)


def killed_while_evaluating(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(build, "write_metrics", torn)


def torn(*_args: object, **_more: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(
    "killed",
    [killed_while_evaluating, killed_while_uploading, killed_before_the_manifest, killed_after_the_manifest],
)
def test_a_kill_at_any_stage_is_made_good_by_the_next_try(
    root: Path, killed: Callable[[pytest.MonkeyPatch, Path], None]
) -> None:
    config = finished(root)
    with pytest.MonkeyPatch.context() as patch:
        killed(patch, root)
        with pytest.raises(KeyboardInterrupt):
            main.publish(config)
    report = run(config, root)
    assert report.exit_code == 0, report.message
    found = manifest(output(root))
    assert all(digest_file(output(root) / f.path, "sha256") == f.digest for f in found.files)


@pytest.mark.slow
def test_what_an_earlier_try_left_behind_is_removed(root: Path) -> None:
    config = finished(root)
    output(root).mkdir(parents=True)
    (output(root) / MARKER).write_text(json.dumps({"runKey": RUN_KEY}))
    (output(root) / "adapter_model.safetensors").write_bytes(b"half of something")
    assert run(config, root).exit_code == 0
    assert not (output(root) / "adapter_model.safetensors").exists()


@pytest.mark.slow
def test_another_runs_output_is_refused_before_any_work(root: Path) -> None:
    place = {"output": {"uri": f"file://{root}/shared-output"}}
    first = finished(root, place)
    assert run(first, root).exit_code == 0
    before = (root / "shared-output" / MANIFEST).read_bytes()
    report = run(first.model_copy(update={"run_key": "fedcba9876543210"}), root)
    assert (report.exit_code, report.reason, report.stage) == (64, "OutputTaken", "Claiming")
    assert f"run {RUN_KEY}" in report.message
    assert (root / "shared-output" / MANIFEST).read_bytes() == before


def test_without_a_checkpoint_it_is_73(root: Path) -> None:
    config = finished(root)
    shutil.rmtree(root / "runs" / RUN_KEY / "checkpoints")
    report = run(config, root)
    assert (report.exit_code, report.reason) == (73, "NoCheckpoint")
    assert "no valid checkpoint" in report.message


def test_an_unfinished_run_is_not_published(root: Path) -> None:
    report = run(finished(root, step=7), root)
    assert report.exit_code == 73
    assert "of step 7, training ends at step 10" in report.message


def test_a_damaged_final_checkpoint_is_not_replaced_by_an_older_one(root: Path) -> None:
    config = finished(root)
    commit_checkpoint(config, step=5, change=0.01)
    weights = root / "runs" / RUN_KEY / "checkpoints" / "step-10-a1" / "trainable.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    report = run(config, root)
    assert report.exit_code == 73
    assert "of step 5" in report.message


@pytest.mark.slow
def test_a_model_that_is_not_finite_is_72(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is refused already when it is saved; one that got through all the same is not published."""
    from finetune_trainer.checkpoint import commit

    monkeypatch.setattr(commit, "refuse_non_finite", lambda _snapshot: None)
    report = run(finished(root, change=float("nan")), root)
    assert report.exit_code == 72
    assert "not finite" in report.message
    assert not output(root).exists()


def test_an_export_that_is_not_what_was_trained_is_never_uploaded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix written with a wrong scale: every weight is finite, every shape right, the loss looks plausible."""
    from finetune_trainer.publish import export

    honest = export._save_weights

    def tampered(model: Any, stored: Any, folder: Path) -> None:
        with torch.no_grad():
            model.model.layers[1].self_attn.v_proj.weight.mul_(1.3)
        honest(model, stored, folder)

    monkeypatch.setattr(export, "_save_weights", tampered)
    report = run(finished(root), root)
    assert (report.exit_code, report.reason, report.stage) == (70, "MergeNotEquivalent", "Checking")
    assert "and the exported folder is above 0.0001: this is not the model that was trained" in report.message
    assert not output(root).exists()


def test_a_merge_with_a_wrong_scale_is_never_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora.layer import Linear

    honest = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, adapter: 2 * honest(self, adapter))
    report = run(finished(root, change=0.1), root)
    assert (report.exit_code, report.reason, report.stage) == (70, "MergeNotEquivalent", "Exporting")
    assert "and the merged one is above 0.0001" in report.message
    assert not output(root).exists()


def test_a_bug_leaves_its_traceback_in_the_report(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_more: object) -> None:
        raise KeyError("surprise")

    config = finished(root)
    monkeypatch.setattr(prepare, "fetch_model", broken)
    report = run(config, root)
    assert report.exit_code == 70
    assert report.traceback is not None
    assert "surprise" in report.traceback


def test_what_is_published_already_is_said_without_loading_torch(root: Path) -> None:
    config = finished(root)
    assert run(config, root).exit_code == 0
    (root / "run.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'peft'):\n"
        "    sys.modules[name] = None\n"
        "from finetune_trainer.__main__ import main\n"
        f"main(['publish', '--config', {str(root / 'run.json')!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "already published" in done.stdout


def test_the_best_checkpoint_is_published_when_asked_for(root: Path) -> None:
    best = {"checkpoint": {"keep": {"best": 1}}, "output": {"checkpoint": "Best"}}
    config = finished(root, best)
    commit_checkpoint(config, step=4, change=0.03, eval_loss=1.1)
    commit_checkpoint(config, step=6, change=0.04, eval_loss=1.2)
    report = run(config, root)
    assert (report.exit_code, report.reason) == (0, "Published")
    assert manifest(output(root)).lineage.checkpoint_step == 4


def test_best_without_a_measured_checkpoint_is_answered_in_words(root: Path) -> None:
    report = run(finished(root, {"checkpoint": {"keep": {"best": 1}}, "output": {"checkpoint": "Best"}}), root)
    assert report.exit_code == 73
    assert "set output.checkpoint: Last" in report.message


def test_the_mean_of_the_last_checkpoints_is_published_when_asked_for(root: Path) -> None:
    """Weights move by noise of one direction, so that their mean is that of its sizes."""
    averaged = {"output": {"average": {"lastK": 2}}, "method": small.FULL}
    config = finished(root, averaged, change=0.04)
    commit_checkpoint(config, step=4, change=0.9)
    commit_checkpoint(config, step=6, change=0.02)
    report = run(config, root)
    assert (report.exit_code, report.reason) == (0, "Published")
    published = manifest(output(root)).lineage
    assert (published.checkpoint_step, published.averaged_steps) == (10, [6, 10])
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(output(root), local_files_only=True)
    assert torch.allclose(logits(model), logits(trained(config, 0.03)), atol=1e-4)


def test_too_few_checkpoints_to_average_are_answered_in_words(root: Path) -> None:
    report = run(finished(root, {"output": {"average": {"lastK": 2}}}), root)
    assert report.exit_code == 73
    assert "lastK is 2" in report.message
    assert "holds 1 valid" in report.message
