"""What may be deleted, and what never."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.checkpoint.fences import list_fences, put_fence
from finetune_trainer.checkpoint.find import Candidate
from finetune_trainer.checkpoint.retention import apply_retention, to_delete
from tests.trainer.test_checkpoint_find import World

candidates = st.lists(st.builds(Candidate, st.integers(1, 50), st.integers(1, 5)), unique=True).map(
    lambda found: sorted(found, key=lambda c: (c.step, c.attempt), reverse=True)
)


@given(candidates, st.data(), st.integers(1, 5))
def test_two_newest_valid_ones_always_stay(found: list[Candidate], data: st.DataObject, keep: int) -> None:
    valid = [c for c in found if data.draw(st.booleans())]
    gone = to_delete(found, valid, keep=keep)
    assert not set(gone) & set(valid[: max(2, keep)])
    assert len(set(valid) - set(gone)) == min(len(valid), max(2, keep))
    if valid:
        newest = valid[0]
        assert all((c.step, c.attempt) < (newest.step, newest.attempt) for c in gone)
    else:
        assert gone == []


def test_deletes_behind_the_newest_commit(tmp_path: Path) -> None:
    world = World(tmp_path)
    for step in (1, 2, 3, 4):
        world.save(step, 1)
    (world.path("step-2-a1") / "MANIFEST.json").unlink()
    assert apply_retention(world.checkpoints, list_fences(world.run), keep=2) == ["step-1-a1", "step-2-a1"]
    assert world.checkpoints.list_dirs() == ["step-3-a1", "step-4-a1"]


def test_fenced_off_checkpoints_do_not_count_as_kept(tmp_path: Path) -> None:
    world = World(tmp_path)
    for step in (1, 2, 3):
        world.save(step, 1)
    put_fence(world.run, 2, resume_step=2, resume_attempt=1)
    world.save(4, 2)
    assert apply_retention(world.checkpoints, list_fences(world.run), keep=2) == ["step-1-a1", "step-3-a1"]
    assert world.found() == "step-4-a2"


def test_the_best_ones_stay_however_old(tmp_path: Path) -> None:
    world = World(tmp_path)
    for step, loss in ((1, 1.2), (2, 1.1), (3, 1.1), (4, None), (5, 1.5), (6, None), (7, 1.6)):
        world.save(step, 1, eval_loss=loss)
    assert apply_retention(world.checkpoints, list_fences(world.run), keep=2, best=2) == [
        "step-1-a1",
        "step-4-a1",
        "step-5-a1",
    ]
    assert apply_retention(world.checkpoints, list_fences(world.run), keep=2, best=1) == ["step-2-a1"]
    assert apply_retention(world.checkpoints, list_fences(world.run), keep=2) == ["step-3-a1"]


def test_the_best_that_a_fence_took_back_is_not_the_best(tmp_path: Path) -> None:
    world = World(tmp_path)
    for step, loss in ((1, 1.2), (2, 1.3), (3, 0.5)):
        world.save(step, 1, eval_loss=loss)
    put_fence(world.run, 2, resume_step=2, resume_attempt=1)
    for step in (4, 5):
        world.save(step, 2, eval_loss=1.4)
    assert apply_retention(world.checkpoints, list_fences(world.run), keep=2, best=1) == ["step-2-a1", "step-3-a1"]
