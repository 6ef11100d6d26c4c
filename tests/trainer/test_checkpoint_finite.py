"""Numbers that are none are never committed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from finetune_trainer.checkpoint.commit import commit
from finetune_trainer.checkpoint.finite import refuse_non_finite
from finetune_trainer.common.errors import RunError
from tests.trainer import runs
from tests.trainer.test_checkpoint_find import World, snapshot


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["trainable", "optimizer"])
def test_nothing_of_it_is_committed(tmp_path: Path, kind: str, value: float) -> None:
    world, bad = World(tmp_path), snapshot(10)
    world.save(5, 1)
    name, tensor = next(iter(getattr(bad, kind).items()))
    tensor[0, 0] = value
    with pytest.raises(RunError, match=f"diverged at step 10: .*{name}") as raised:
        commit(world.config, world.run, world.checkpoints, bad, tmp_path / "scratch")
    assert raised.value.code == 72
    assert list(runs.manifests(world.config)) == ["step-5-a1"]
    assert world.found() == "step-5-a1"


def test_large_numbers_are_numbers() -> None:
    large = snapshot(1)
    large.trainable["a.weight"].fill_(torch.finfo(torch.float32).max)
    refuse_non_finite(large)
