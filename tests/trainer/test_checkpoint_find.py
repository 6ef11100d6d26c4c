"""The checkpoint to resume from: newest first, the first whole one; everything else is left with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from finetune_api.runconfig import RunConfig
from finetune_artifacts import Store
from finetune_trainer.checkpoint import files
from finetune_trainer.checkpoint.commit import commit
from finetune_trainer.checkpoint.fences import list_fences, put_fence
from finetune_trainer.checkpoint.find import newest_valid
from finetune_trainer.checkpoint.snapshot import Position, Snapshot
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.stores import open_checkpoints, open_run
from tests.trainer import runs


def snapshot(step: int, eval_loss: float | None = None) -> Snapshot:
    position = Position(
        step=step,
        epoch=step / 10,
        tokens=step * 7,
        loss=1.5,
        total_steps=100,
        world_size=2,
        global_batch_size=8,
        rows=80,
        eval_loss=eval_loss,
    )
    tensors = {"a.weight": torch.full((3, 4), float(step)), "b.weight": torch.arange(5.0)}
    optimizer = {f"{name}.exp_avg": tensor * 2 for name, tensor in tensors.items()}
    return Snapshot(position, tensors, optimizer)


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = runs.config(folder / "store", runs.spec(Path("/model"), Path("/data.jsonl")))

    def at(self, attempt: int) -> RunConfig:
        return self.config.model_copy(update={"attempt": attempt})

    @property
    def run(self) -> Store:
        return open_run(self.config)

    @property
    def checkpoints(self) -> Store:
        return open_checkpoints(self.config)

    def save(self, step: int, attempt: int, *, eval_loss: float | None = None) -> str:
        taken = snapshot(step, eval_loss)
        report = commit(self.at(attempt), self.run, self.checkpoints, taken, self.folder / "scratch")
        return report.uri.rsplit("/", 1)[-1]

    def found(self) -> str | None:
        found = newest_valid(self.checkpoints, list_fences(self.run), self.folder / "resume")
        if found is None:
            return None
        step = found.manifest.step
        assert torch.equal(files.read_trainable(found.folder)["a.weight"], snapshot(step).trainable["a.weight"])
        assert files.read_position(found.folder) == snapshot(step).position
        return found.folder.name

    def path(self, name: str) -> Path:
        return Path(self.config.checkpoints_uri.removeprefix("file://")) / name


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_nothing_there(world: World) -> None:
    assert world.found() is None


def test_newest_by_step_then_attempt(world: World) -> None:
    for step, attempt in ((9, 1), (10, 1), (10, 2)):
        world.save(step, attempt)
    assert world.found() == "step-10-a2"


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [_truncate, _flip, Path.unlink], ids=["truncate", "flip", "delete"])
@pytest.mark.parametrize("file", ["trainable.safetensors", "optimizer.safetensors", files.STATE])
def test_damage_falls_back_and_is_noted(world: World, file: str, damage: Callable[[Path], None]) -> None:
    older, newer = world.save(5, 1), world.save(10, 1)
    damage(world.path(newer) / file)
    assert world.found() == older
    note = json.loads((world.path(newer) / "QUARANTINED.json").read_text())
    assert file in note["reason"]
    assert world.found() == older


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"null"])
def test_unreadable_manifest_falls_back(world: World, content: bytes) -> None:
    older, newer = world.save(5, 1), world.save(10, 1)
    (world.path(newer) / "MANIFEST.json").write_bytes(content)
    assert world.found() == older


def test_uncommitted_content_is_ignored(world: World) -> None:
    older, newer = world.save(5, 1), world.save(10, 1)
    (world.path(newer) / "MANIFEST.json").unlink()
    assert world.found() == older
    assert not (world.path(newer) / "QUARANTINED.json").exists()


def test_what_a_zombie_wrote_beyond_the_fence_is_ignored(world: World) -> None:
    world.save(5, 1)
    world.save(10, 1)
    put_fence(world.run, 2, resume_step=5, resume_attempt=1)
    assert world.found() == "step-5-a1"


def test_a_zombie_cannot_commit(world: World) -> None:
    put_fence(world.run, 2, resume_step=0, resume_attempt=0)
    with pytest.raises(RunError, match="fenced by attempt 2") as raised:
        world.save(10, 1)
    assert raised.value.code == 86
    assert runs.manifests(world.config) == {}


def test_a_twin_cannot_commit_the_same_step(world: World) -> None:
    world.save(10, 1)
    other = replace(snapshot(10), trainable={"a.weight": torch.ones(3, 4), "b.weight": torch.ones(5)})
    with pytest.raises(RunError) as raised:
        commit(world.at(1), world.run, world.checkpoints, other, world.folder / "scratch")
    assert raised.value.code == 86


def test_a_commit_whose_answer_was_lost_may_be_repeated(world: World) -> None:
    name = world.save(10, 1)
    first = runs.manifests(world.config)[name]
    assert world.save(10, 1) == name
    assert runs.manifests(world.config)[name] == first
    assert world.found() == name


def test_manifest_names_every_file(world: World) -> None:
    name = world.save(10, 1)
    manifest = runs.manifests(world.config)[name]
    assert {f.path for f in manifest.files} == {"trainable.safetensors", "optimizer.safetensors", files.STATE}
    assert {p.name for p in world.path(name).iterdir()} == {f.path for f in manifest.files} | {"MANIFEST.json"}
    assert not (world.folder / "scratch" / name).exists()
