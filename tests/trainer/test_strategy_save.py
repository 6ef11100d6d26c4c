"""Ranks that each hold a part save together: all commit, all try again, or all give up, whatever failed on which.

The ranks are threads, and what they tell one another goes over a table instead of a process group.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from finetune_api.exitcodes import ExitCode
from finetune_api.reports import CheckpointReport
from finetune_artifacts import ArtifactError
from finetune_trainer.checkpoint import files, restore
from finetune_trainer.checkpoint import saver as saver_module
from finetune_trainer.checkpoint.commit import commit
from finetune_trainer.checkpoint.fences import list_fences, put_fence
from finetune_trainer.checkpoint.find import newest_valid
from finetune_trainer.checkpoint.held import Held, hold
from finetune_trainer.checkpoint.saver import Saver
from finetune_trainer.checkpoint.snapshot import Snapshot, copy
from finetune_trainer.checkpoint.together import Together
from finetune_trainer.common.errors import RunError
from tests.trainer.test_checkpoint_find import World, snapshot

RANKS = 3
PATIENCE = 20.0
WHOLE = {"a.weight": torch.arange(20.0).reshape(5, 4), "b.weight": torch.arange(4.0), "c.weight": torch.ones(1, 2)}
"""Over three ranks: 2 + 2 + 1 rows; 2 + 2 + 0; 1 + 0 + 0."""


class Table:
    def __init__(self, size: int) -> None:
        self.said: list[str] = [""] * size
        self.barrier = threading.Barrier(size, timeout=PATIENCE)


class Seat(Together):
    def __init__(self, table: Table, rank: int) -> None:
        self.table, self.rank, self.size = table, rank, len(table.said)

    def all(self, mine: Any) -> list[Any]:
        self.table.said[self.rank] = json.dumps(mine)
        self.table.barrier.wait()
        heard = [json.loads(text) for text in self.table.said]
        self.table.barrier.wait()
        return heard


def shares(rank: int, scale: float = 1.0, *, ranks: int = RANKS) -> dict[str, Held]:
    """Blocks of rows, as FSDP cuts them."""
    held = {}
    for name, whole in WHOLE.items():
        rows = math.ceil(len(whole) / ranks)
        mine = (whole * scale)[rank * rows : (rank + 1) * rows].clone()
        start = min(rank * rows, len(whole)) * math.prod(whole.shape[1:])
        state = {"step": torch.tensor(7.0), "exp_avg": mine * 2}
        held[name] = Held(mine, state, tuple(whole.shape), start)
    return held


def taken(rank: int, step: int = 5, *, ranks: int = RANKS) -> Snapshot:
    trainable, optimizer, parts = copy(shares(rank, step, ranks=ranks))
    return replace(snapshot(step), trainable=trainable, optimizer=optimizer, parts=parts)


class Ranks:
    def __init__(self, folder: Path) -> None:
        self.world, self.table = World(folder), Table(RANKS)
        self.seats = [Seat(self.table, rank) for rank in range(RANKS)]

    def commit(self, rank: int, wanted: Snapshot, attempt: int = 1) -> CheckpointReport:
        scratch = self.world.folder / "scratch" / str(rank)
        run, checkpoints = self.world.run, self.world.checkpoints
        return commit(self.world.at(attempt), run, checkpoints, wanted, scratch, together=self.seats[rank])

    def each(self, act: Callable[[int], Any]) -> list[Any]:
        """What `act` gives or raises, by rank; a rank that does not come back fails the test."""
        found: list[Any] = [None] * RANKS

        def one(rank: int) -> None:
            try:
                found[rank] = act(rank)
            except Exception as error:
                found[rank] = error

        threads = [threading.Thread(target=one, args=(rank,), daemon=True) for rank in range(RANKS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * PATIENCE)
            assert not thread.is_alive(), "a rank hangs"
        return found

    def save(self, step: int = 5, attempt: int = 1) -> list[Any]:
        return self.each(lambda rank: self.commit(rank, taken(rank, step), attempt))

    def folder(self, step: int, attempt: int = 1) -> Path:
        return Path(self.world.config.checkpoints_uri.removeprefix("file://")) / f"step-{step}-a{attempt}"

    def savers(self) -> list[Saver]:
        return [Saver(partial(self.commit, rank), lambda _report: None, self.seats[rank]) for rank in range(RANKS)]


class FullDisk:
    """No space left for these ranks, the first `times` times."""

    def __init__(self, patch: pytest.MonkeyPatch, ranks: set[int], times: float) -> None:
        self.left = dict.fromkeys(ranks, times)
        self._write = files.write
        patch.setattr(files, "write", self)

    def __call__(self, wanted: Snapshot, folder: Path, *, rank: int = 0, ranks: int = 1) -> None:
        if self.left.get(rank, 0) > 0:
            self.left[rank] -= 1
            raise OSError(28, "No space left on device")
        self._write(wanted, folder, rank=rank, ranks=ranks)


@pytest.fixture
def ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ranks:
    monkeypatch.setattr(saver_module, "RETRY_SECONDS", (0.001, 0.001))
    return Ranks(tmp_path)


def assert_whole(folder: Path, scale: float) -> None:
    trainable, optimizer = files.read_trainable(folder), files.read_optimizer(folder)
    assert trainable.keys() == WHOLE.keys()
    for name, whole in WHOLE.items():
        assert torch.equal(trainable[name], whole * scale)
        assert torch.equal(optimizer[f"{name}.exp_avg"], whole * scale * 2)
        assert optimizer[f"{name}.step"] == 7.0


def test_parts_come_back_whole(ranks: Ranks) -> None:
    reports = ranks.save(5)
    assert all(report == reports[0] for report in reports), reports
    assert_whole(ranks.folder(5), 5.0)
    found = newest_valid(ranks.world.checkpoints, list_fences(ranks.world.run), ranks.world.folder / "local")
    assert found is not None
    assert len(found.manifest.files) == 2 * RANKS + 1
    assert reports[0].bytes == sum(file.size for file in found.manifest.files)
    assert_whole(found.folder, 5.0)


def test_a_part_is_no_larger_than_it_must_be(ranks: Ranks) -> None:
    ranks.save(5)
    stored = [sum(f.stat().st_size for f in ranks.folder(5).glob(f"*-{n:05}-of-*")) for n in (1, 2, 3)]
    assert stored[0] > stored[1] > stored[2]


@pytest.mark.parametrize("failing", [{0}, {2}, {1, 2}])
def test_one_full_disk_fails_the_save_on_all_and_the_next_try_commits(
    ranks: Ranks, monkeypatch: pytest.MonkeyPatch, failing: set[int]
) -> None:
    FullDisk(monkeypatch, failing, 1)
    errors = ranks.save(5)
    assert {type(error) for error in errors} == {ArtifactError}
    assert len({str(error) for error in errors}) == 1
    assert f"rank {min(failing)}: " in str(errors[0])
    assert "No space left" in str(errors[0])
    assert not (ranks.folder(5) / "MANIFEST.json").exists()
    assert {type(report) for report in ranks.save(5)} == {CheckpointReport}
    assert_whole(ranks.folder(5), 5.0)


def test_a_newer_attempt_ends_it_on_all(ranks: Ranks) -> None:
    put_fence(ranks.world.run, 2, resume_step=0, resume_attempt=0)
    errors = ranks.save(5)
    assert [error.code for error in errors] == [ExitCode.STOPPED_UNSAVED] * RANKS


def run_savers(ranks: Ranks, savers: list[Saver], step: int, *, persistent: bool = False) -> None:
    for rank, saver in enumerate(savers):
        saver.start(taken(rank, step), persistent=persistent)
    assert all(saver.wait(PATIENCE) for saver in savers), "a rank hangs"


def test_savers_ride_out_one_ranks_trouble(ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    FullDisk(monkeypatch, {1}, 2)
    savers = ranks.savers()
    run_savers(ranks, savers, 5)
    assert [saver.last.step if saver.last else None for saver in savers] == [5] * RANKS


def test_savers_forgive_once_and_end_together(ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    FullDisk(monkeypatch, {2}, math.inf)
    savers = ranks.savers()
    run_savers(ranks, savers, 5)
    assert [saver.error() for saver in savers] == [None] * RANKS
    run_savers(ranks, savers, 10)
    errors = [saver.error() for saver in savers]
    assert [error.code if error else None for error in errors] == [ExitCode.STORAGE] * RANKS
    assert all(error and "rank 2: " in error.message for error in errors)


def test_the_save_at_a_stop_does_not_give_up_on_any_rank(ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    FullDisk(monkeypatch, {0}, 20)
    savers = ranks.savers()
    run_savers(ranks, savers, 5, persistent=True)
    assert [saver.last.step if saver.last else None for saver in savers] == [5] * RANKS


@pytest.mark.parametrize("hurried", range(RANKS))
def test_one_hurried_rank_makes_all_give_up(ranks: Ranks, monkeypatch: pytest.MonkeyPatch, hurried: int) -> None:
    monkeypatch.setattr(saver_module, "RETRY_SECONDS", (0.2, 0.2, 0.2, 0.2, 0.2))
    disk = FullDisk(monkeypatch, {1}, 1)
    savers = ranks.savers()
    for rank, saver in enumerate(savers):
        saver.start(taken(rank))
    savers[hurried].hurry()
    assert all(saver.wait(PATIENCE) for saver in savers), "a rank hangs"
    assert disk.left == {1: 0}
    assert [saver.last for saver in savers] == [None] * RANKS
    assert [saver.error() for saver in savers] == [None] * RANKS


def test_a_missing_part_is_told_in_words(ranks: Ranks) -> None:
    ranks.save(5)
    (ranks.folder(5) / "trainable-00002-of-00003.safetensors").unlink()
    with pytest.raises(RunError, match=r"holds 12 of 20 elements of a\.weight") as caught:
        files.read_trainable(ranks.folder(5))["a.weight"]
    assert caught.value.code == ExitCode.NO_CHECKPOINT


def test_another_model_is_refused_in_words(ranks: Ranks) -> None:
    ranks.save(5)
    held = shares(0)
    restore.check(held, ranks.folder(5))
    other = held | {"a.weight": replace(held["a.weight"], shape=(6, 4))}
    with pytest.raises(RunError, match=r"a\.weight has shape \[5, 4\], the model has \[6, 4\]"):
        restore.check(other, ranks.folder(5))
    with pytest.raises(RunError, match=r"is of another model: missing \['d\.weight'\]"):
        restore.check(held | {"d.weight": held["a.weight"]}, ranks.folder(5))


def test_replicas_of_a_hybrid_mesh_are_saved_once(tmp_path: Path) -> None:
    """Two nodes of two, one after another: a process of its own for each, since torch remembers a process's mesh."""
    for rank in range(4):
        process = get_context("fork").Process(target=write_as, args=(rank, tmp_path))
        process.start()
        process.join(PATIENCE)
        assert process.exitcode == 0
    for name, whole in WHOLE.items():
        assert torch.equal(files.read_trainable(tmp_path)[name], whole)
        assert torch.equal(files.read_optimizer(tmp_path)[f"{name}.exp_avg"], whole * 2)
    stored = [set(load_file(tmp_path / f"trainable-0000{n}-of-00004.safetensors")) for n in (1, 2, 3, 4)]
    assert stored == [set(WHOLE), {"a.weight", "b.weight"}, set(), set()]


def write_as(rank: int, folder: Path) -> None:
    """That rank's files, over torch's backend that sends nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=4)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    trainable, optimizer, parts = copy(hold(*sharded(mesh, rank % 2)))
    files.write(replace(snapshot(5), trainable=trainable, optimizer=optimizer, parts=parts), folder, rank=rank, ranks=4)


def sharded(mesh: DeviceMesh, column: int) -> tuple[dict[str, nn.Parameter], torch.optim.Optimizer]:
    """Parameters cut by rows within a node, and an optimizer that has stepped."""
    shares_ = shares(column, ranks=2)

    def spread(local: torch.Tensor, whole: torch.Tensor) -> DTensor:
        return DTensor.from_local(
            local, mesh, (Replicate(), Shard(0)), run_check=False, shape=whole.shape, stride=whole.stride()
        )

    parameters = {name: nn.Parameter(spread(shares_[name].local, whole)) for name, whole in WHOLE.items()}
    optimizer = torch.optim.AdamW(parameters.values())
    for name, parameter in parameters.items():
        moment = spread(shares_[name].state["exp_avg"], WHOLE[name])
        optimizer.state[parameter] = {"step": torch.tensor(7.0), "exp_avg": moment}
    return parameters, optimizer
