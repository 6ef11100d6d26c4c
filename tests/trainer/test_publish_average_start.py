"""What an adapter began with is part of the model: the mean of checkpoints keeps it, and drops the moments."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from finetune_trainer.publish.average import average


class Manifest(SimpleNamespace):
    def model_copy(self, update: dict[str, Any]) -> Manifest:
        return Manifest(**{**vars(self), **update})


def found(folder: Path, step: int, value: float) -> Any:
    folder.mkdir()
    save_file({"a.weight": torch.full((2, 2), value)}, folder / "trainable.safetensors")
    states = {
        "a.weight.start": torch.ones(2, 2),
        "a.weight.kept": torch.ones(2, 1),
        "a.weight.exp_avg": torch.zeros(2, 2),
    }
    save_file(states, folder / "optimizer.safetensors")
    return SimpleNamespace(folder=folder, manifest=Manifest(step=step))


def test_the_start_and_the_choice_of_ranks_are_kept(tmp_path: Path) -> None:
    both = [found(tmp_path / "8", 8, 3.0), found(tmp_path / "4", 4, 1.0)]
    manifest, folder = average(both, tmp_path / "mean")
    assert manifest.averaged_steps == [4, 8]
    assert torch.equal(load_file(folder / "trainable.safetensors")["a.weight"], torch.full((2, 2), 2.0))
    assert set(load_file(folder / "optimizer.safetensors")) == {"a.weight.start", "a.weight.kept"}
