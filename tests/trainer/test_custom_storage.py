"""The storage side of a custom trainer: what a pod starts from, what counts, what is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_api.layout import checkpoint_name
from finetune_api.runconfig import RunConfig
from finetune_artifacts import ArtifactError, Store
from finetune_trainer.checkpoint.fences import put_fence
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.stores import open_checkpoints, open_run
from finetune_trainer.custom import companion, publish
from finetune_trainer.custom.commit import commit, flatten, store_part
from finetune_trainer.custom.settle import settle
from finetune_trainer.foreign.exchange import Exchange, Folders
from finetune_trainer.foreign.http import exposition, parse_request
from tests.trainer import custom, runs


def configured(folder: Path, **changes: Any) -> RunConfig:
    document = custom.spec(folder / "model", folder / "data.jsonl", ["true"], retry={"hangTimeout": "1s"})
    return runs.config(folder / "runs", document, **changes)


def ignore(_bytes: int) -> None:
    """Nobody watches here."""


def written(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def test_two_nodes_files_come_back_as_one_machine_would_have_written_them(tmp_path: Path) -> None:
    wanted = configured(tmp_path, nodes=2)
    run, checkpoints = open_run(wanted), open_checkpoints(wanted)
    zero = written(tmp_path / "0", model="weights", rng_state_0="a")
    one = written(tmp_path / "1", model="the same, stale", rng_state_1="b")
    store_part(wanted, checkpoints, 1, 5, one, ignore)
    done = commit(wanted, run, checkpoints, {"step": 5, "seed": 7, "totalSteps": 9}, zero, ignore)
    assert done.step == 5
    assert commit(wanted, run, checkpoints, {"step": 5, "seed": 7, "totalSteps": 9}, zero, ignore).digest == done.digest
    again = wanted.model_copy(update={"attempt": 2})
    for index in (0, 1):
        folders = Folders(tmp_path / f"pod-{index}")
        folders.channel.mkdir(parents=True)
        chosen = json.loads(settle(again, index, run, checkpoints, folders, ignore))
        assert (chosen["step"], chosen["attempt"]) == (5, 1)
        found = {p.name: p.read_text() for p in Path(chosen["folder"]).iterdir()}
        assert found == {"model": "weights", "rng_state_0": "a", "rng_state_1": "b"}
        # The container may be started again at any moment.
        assert json.loads(settle(again, index, run, checkpoints, folders, ignore)) == chosen


def test_without_the_other_nodes_part_nothing_is_committed(tmp_path: Path) -> None:
    wanted = configured(tmp_path, nodes=2)
    with pytest.raises(RunError, match="node 1's part of step-5-a1 did not come within 1 s"):
        commit(wanted, open_run(wanted), open_checkpoints(wanted), {"step": 5}, written(tmp_path / "0", m="w"), ignore)
    assert runs.manifests(wanted) == {}


def test_a_checkpoint_without_a_file_is_none(tmp_path: Path) -> None:
    wanted = configured(tmp_path)
    with pytest.raises(RunError, match="its folder is empty"):
        commit(wanted, open_run(wanted), open_checkpoints(wanted), {"step": 5}, written(tmp_path / "0"), ignore)


def test_a_link_to_what_the_storage_container_sees_is_refused(tmp_path: Path) -> None:
    wanted = configured(tmp_path)
    folders = Folders(tmp_path / "pod")
    secrets = written(tmp_path / "secrets", key="k")
    exchange = Exchange(folders.channel)
    folders.saving.mkdir()
    (folders.saving / "3").symlink_to(secrets)
    exchange.put_saved(3, {})
    one = companion.Companion(wanted, 0, folders, exchange)
    with pytest.raises(RunError, match="is a symbolic link"):
        one.look()
    assert runs.manifests(wanted) == {}


def test_a_fenced_attempt_commits_nothing(tmp_path: Path) -> None:
    wanted = configured(tmp_path)
    run = open_run(wanted)
    put_fence(run, 2, resume_step=0, resume_attempt=0)
    with pytest.raises(RunError, match="fenced by attempt 2"):
        commit(wanted, run, open_checkpoints(wanted), {"step": 5}, written(tmp_path / "0", m="w"), ignore)


def test_a_flipped_bit_is_never_resumed_from(tmp_path: Path) -> None:
    wanted = configured(tmp_path)
    run, checkpoints = open_run(wanted), open_checkpoints(wanted)
    for step in (3, 6):
        commit(wanted, run, checkpoints, {"step": step}, written(tmp_path / str(step), m=f"state {step}"), ignore)
    (Path(wanted.checkpoints_uri.removeprefix("file://")) / checkpoint_name(6, 1) / "m").write_text("stale 6")
    folders = Folders(tmp_path / "pod")
    folders.channel.mkdir(parents=True)
    chosen = json.loads(settle(wanted.model_copy(update={"attempt": 2}), 0, run, checkpoints, folders, ignore))
    assert chosen["step"] == 3
    assert (Path(chosen["folder"]) / "m").read_text() == "state 3"


def test_none_where_one_was_promised(tmp_path: Path) -> None:
    wanted = configured(tmp_path, require_checkpoint=True)
    folders = Folders(tmp_path / "pod")
    with pytest.raises(RunError, match=r"none below .* is valid now"):
        settle(wanted, 0, open_run(wanted), open_checkpoints(wanted), folders, ignore)


def test_storage_that_fails_is_asked_again_and_then_ends_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = configured(tmp_path)
    folders = Folders(tmp_path / "pod")
    exchange = Exchange(folders.channel)
    tries: list[int] = []

    def refuse(*_: object, **__: object) -> None:
        tries.append(1)
        if len(tries) != 3:
            raise ArtifactError("file:///x", "write", "the disk is full")

    monkeypatch.setattr(companion, "RETRY_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(companion.Companion, "_output", refuse)
    exchange.put_finished({"step": 1})
    one = companion.Companion(wanted, 0, folders, exchange)
    one.look()
    assert exchange.kept()
    (exchange.folder / "kept.json").unlink()
    with pytest.raises(ArtifactError, match="the disk is full"):
        one.look()


def model_of(folder: Path, **files: str) -> Path:
    return written(folder, model__safetensors="w", config__json="{}", **files)


def test_what_may_be_published(tmp_path: Path) -> None:
    full = model_of(tmp_path / "full", training_args__bin="p", optimizer__pt="p")
    assert publish.drop_pickled(full) == ["optimizer.pt", "training_args.bin"]
    assert publish.kind_of(full) == "Full"
    (full / "adapter_config.json").write_text("{}")
    assert publish.kind_of(full) == "Adapter"
    with pytest.raises(RunError, match=r"no \*.safetensors file is in it"):
        publish.kind_of(written(tmp_path / "none", config__json="{}"))
    with pytest.raises(RunError, match=r"neither config\.json nor adapter_config\.json"):
        publish.kind_of(written(tmp_path / "bare", model__safetensors="w"))


def test_metrics_are_the_scripts_and_bad_ones_are_named(tmp_path: Path) -> None:
    folder = model_of(
        tmp_path / "m", metrics__json='{"loss": 1.5, "exactMatch": {"final": 0.9, "base": 0.1, "samples": 4}}'
    )
    found = publish.read_metrics(folder)
    assert (found["loss"].final, found["loss"].base, found["exactMatch"].samples) == (1.5, None, 4)
    assert publish.read_metrics(model_of(tmp_path / "without")) == {}
    for bad in ("[1]", '{"loss": "low"}', "{"):
        (folder / "metrics.json").write_text(bad)
        with pytest.raises(RunError, match=r"metrics\.json cannot be read"):
            publish.read_metrics(folder)


def test_an_output_that_was_damaged_is_not_published(tmp_path: Path) -> None:
    wanted = configured(tmp_path)
    folders = Folders(tmp_path / "pod")
    model_of(folders.output)
    exchange = Exchange(folders.channel)
    exchange.put_finished({"step": 4})
    companion.Companion(wanted, 0, folders, exchange).look()
    outputs: Store = open_run(wanted).child(companion.OUTPUTS)
    assert publish.take_output(outputs, tmp_path / "taken").step == 4
    stored = Path(wanted.run_uri.removeprefix("file://")) / "outputs" / "a1" / "model.safetensors"
    stored.write_text("x")
    with pytest.raises(RunError, match="damaged in storage"):
        publish.take_output(outputs, tmp_path / "again")


def test_flatten_leaves_index_zeros_files(tmp_path: Path) -> None:
    folder = written(tmp_path / "c", a="0")
    written(folder / "node-1", a="1", b="1")
    written(folder / "node-10", b="10", c="10")
    flatten(folder)
    assert {p.name: p.read_text() for p in folder.iterdir()} == {"a": "0", "b": "1", "c": "10"}


@pytest.mark.parametrize("body", [b"x", b"[]", b'{"stop": true}', b'{"reason": "a", "stop": "yes"}'])
def test_requests_are_refused_in_words(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"expected|not JSON"):
        parse_request(body)


def test_the_metrics_page_has_the_built_in_trainers_names() -> None:
    text = exposition({"stage": "Training", "step": 3, "totalSteps": 9, "loss": 0.5, "evalLoss": None})
    assert "finetune_trainer_total_steps 9\n" in text
    assert "finetune_trainer_eval_loss" not in text
    assert 'finetune_trainer_stage{stage="Training"} 1' in text
