"""Liger's kernels compute what the model's own do, or it is said in words why they are not used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from finetune_trainer.common.errors import SpecError
from finetune_trainer.engine import kernels
from finetune_trainer.engine.kernels import TYPES, use_liger, wants_liger
from tests.trainer import small

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def asked(name: str) -> Any:
    return small.config(Path("/x"), {"training": {"kernels": name}}).spec


def test_what_is_not_asked_for_is_not_used() -> None:
    assert not wants_liger(asked("Torch"), CPU)
    assert not wants_liger(small.config(Path("/x")).spec, GPU)


def test_a_cpu_is_told_so() -> None:
    with pytest.raises(SpecError, match=r"spec\.training\.kernels: 'Liger' cannot be used: .*need a GPU; use Torch"):
        wants_liger(asked("Liger"), CPU)


def test_an_image_without_the_package_or_a_compiler_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda _name: None)
    with pytest.raises(SpecError, match="no package liger-kernel; use Torch"):
        wants_liger(asked("Liger"), GPU)
    monkeypatch.setattr(kernels, "find_spec", lambda _name: object())
    monkeypatch.setattr(kernels, "compiler", lambda _device: None)
    with pytest.raises(SpecError, match="no C compiler, which Triton needs; use Torch"):
        wants_liger(asked("Liger"), GPU)
    monkeypatch.setattr(kernels, "compiler", lambda _device: "/usr/bin/gcc")
    assert wants_liger(asked("Liger"), GPU)


def test_a_type_that_was_not_compared_is_refused_and_left_as_it_is() -> None:
    model = SimpleNamespace(config=SimpleNamespace(model_type="falcon"))
    with pytest.raises(SpecError, match=r"models of type falcon have not been proven .*llama.*; use Torch"):
        use_liger(model)


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainer.interpreted"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", TYPES)
def test_loss_and_gradients_are_the_models_own(kind: str, compared: dict[str, Any]) -> None:
    found = compared[kind]
    assert {"model.norm", "model.layers.1.mlp"} <= set(found["changed"])
    assert max(found["losses"]) < 2e-6
    whole, adapter = found["gradients"]
    assert whole < 2e-6
    assert adapter < 2e-4
