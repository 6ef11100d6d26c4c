"""The copy of the last finished step: always one whole, committed once, and only when nobody else does it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.reports import CheckpointReport
from finetune_artifacts import Unreachable
from finetune_trainer.checkpoint.held import Held
from finetune_trainer.checkpoint.snapshot import Snapshot, copy
from finetune_trainer.common.channel import Channel
from finetune_trainer.engine.lifeboat import Lifeboat, wanted
from tests.trainer import runs
from tests.trainer.test_checkpoint_find import snapshot


class Sea:
    """Remembers what was stored; fails as often as told."""

    def __init__(self, folder: Path, committed: int = 0) -> None:
        self.failures, self.stored = 0, list[Snapshot]()
        self.boat = Lifeboat(Channel(folder), self.save, committed)
        self.live = {"a": torch.zeros(2, 3), "b": torch.zeros(4)}
        self.moments = {
            name: {"step": torch.zeros(()), "exp_avg": tensor.clone()} for name, tensor in self.live.items()
        }

    def held(self) -> dict[str, Held]:
        return {name: Held(t, self.moments[name], tuple(t.shape)) for name, t in self.live.items()}

    def step(self, step: int) -> None:
        for name, tensor in self.live.items():
            tensor.fill_(step)
            self.moments[name]["step"].fill_(step)
            self.moments[name]["exp_avg"].fill_(10 * step)
        self.boat.keep(snapshot(step).position, self.held())

    def save(self, taken: Snapshot) -> CheckpointReport:
        if self.failures:
            self.failures -= 1
            raise Unreachable("s3://bucket/run", "write", "no answer")
        self.stored.append(taken)
        return CheckpointReport(
            step=taken.position.step, attempt=1, uri="s3://b", bytes=1, seconds=0.1, digest="xxh3:0", at="now"
        )


@pytest.fixture
def sea(tmp_path: Path) -> Sea:
    return Sea(tmp_path)


def test_nothing_to_save_before_the_first_step(sea: Sea) -> None:
    assert sea.boat.rescue() is None


def test_the_last_finished_step_in_the_form_of_a_checkpoint(sea: Sea) -> None:
    for step in range(1, 6):
        sea.step(step)
        expected = copy(sea.held())
    for tensor in sea.live.values():
        tensor.fill_(-1)  # a step that was begun and never ended
    assert sea.boat.rescue() == 5
    (taken,) = sea.stored
    assert taken.position == snapshot(5).position
    assert taken.trainable.keys() == expected[0].keys()
    assert all(torch.equal(taken.trainable[name], tensor) for name, tensor in expected[0].items())
    assert all(torch.equal(taken.optimizer[name], tensor) for name, tensor in expected[1].items())


def test_a_copy_that_broke_off_leaves_the_one_before(sea: Sea) -> None:
    sea.step(1)
    sea.step(2)
    broken = sea.held() | {"b": Held(torch.zeros(5), {}, (5,))}
    with pytest.raises(RuntimeError):
        sea.boat.keep(snapshot(3).position, broken)
    assert sea.boat.rescue() == 2


def test_what_is_committed_is_not_saved_again(sea: Sea) -> None:
    sea.step(1)
    sea.boat.committed(sea.save(snapshot(1)))
    sea.stored.clear()
    assert sea.boat.rescue() == 1
    assert sea.stored == []


def test_a_store_that_fails_saves_nothing_and_may_be_asked_again(sea: Sea) -> None:
    sea.failures = 1
    sea.step(1)
    assert sea.boat.rescue() is None
    assert sea.boat.rescue() == 1


def test_after_the_agreed_stop_nobody_is_rescued(sea: Sea) -> None:
    sea.step(1)
    sea.boat.stand_down()
    assert sea.boat.rescue() is None
    assert sea.stored == []


def test_training_waits_for_a_rescue_under_way(sea: Sea) -> None:
    """A step that ends meanwhile must not overwrite what is being written."""
    sea.step(1)
    writing, go_on, order = threading.Event(), threading.Event(), list[str]()
    save = sea.save

    def slow(taken: Snapshot) -> CheckpointReport:
        writing.set()
        assert go_on.wait(30)
        order.append("saved")
        return save(taken)

    sea.boat._save = slow
    rescue = threading.Thread(target=sea.boat.rescue)
    rescue.start()
    assert writing.wait(30)
    training = threading.Thread(target=lambda: (sea.step(2), order.append("step")))
    training.start()
    go_on.set()
    rescue.join(30)
    training.join(30)
    assert order == ["saved", "step"]


@pytest.mark.parametrize(
    ("method", "ranks", "spread", "expected"),
    [("LoRA", 2, False, True), ("LoRA", 1, False, False), ("LoRA", 2, True, False), ("FullFineTune", 2, False, False)],
)
def test_for_adapters_with_peers_only(method: str, ranks: int, spread: bool, expected: bool) -> None:
    document = runs.spec(Path("/m"), Path("/d.jsonl"))
    document["method"] = {"type": method}
    assert wanted(FineTuneJobSpec.model_validate(document), ranks, spread=spread) is expected
