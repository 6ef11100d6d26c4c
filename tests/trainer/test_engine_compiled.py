"""A compiled model learns what the plain one learns, by one program for all its layers and lengths; or it is said in
words why it is not compiled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from finetune_trainer.common.errors import SpecError
from finetune_trainer.engine.batch import Batch
from finetune_trainer.engine.compiled import compile_layers, compiler, is_compiled
from finetune_trainer.engine.loss import target_loss_sum
from finetune_trainer.engine.model import Form, build
from tests.trainer import small, tiny
from tests.trainer.methods import METHODS

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
SHAPES = ((2, 8), (3, 11), (4, 16), (2, 5))
LAYERS = 3
PROGRAMS = {"FullFineTune": 1, "LoRA": 2}
"""LoRA: nothing before the first layer is trained, so its input needs no gradient."""


def asked(root: Path = Path("/x"), method: dict[str, Any] = small.FULL, **training: Any) -> Any:
    return small.config(root, {"method": method, "training": training}).spec


def test_what_is_not_asked_for_is_not_compiled() -> None:
    assert not is_compiled(asked(), CPU)


@pytest.mark.parametrize(
    ("device", "language", "names", "variable"),
    [(CPU, "C++", ("g++", "clang++"), "CXX"), (GPU, "C", ("gcc", "clang"), "CC")],
)
def test_a_compiler_is_found_where_it_is_looked_for(
    device: torch.device,
    language: str,
    names: tuple[str, str],
    variable: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def put(name: str) -> str:
        path = tmp_path / name
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return str(path)

    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SpecError, match=re.escape(f"no {language} compiler; use one with it, or remove this")):
        is_compiled(asked(compile=True), device)
    second, first = put(names[1]), put(names[0])
    assert compiler(device) == first
    assert is_compiled(asked(compile=True), device)
    monkeypatch.setenv(variable, names[1])
    assert compiler(device) == second
    monkeypatch.setenv(variable, "icc")
    assert compiler(device) is None


def test_a_model_without_layers_is_refused_in_words() -> None:
    with pytest.raises(SpecError, match=r"spec\.training\.compile: True cannot be used: Linear is not built of"):
        compile_layers(nn.Linear(2, 2))


def test_what_is_not_learned_from_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def note(plain: Any, *, dynamic: bool) -> Any:
        assert dynamic
        return lambda *inputs, **options: (calls.append(plain), plain(*inputs, **options))[1]

    monkeypatch.setattr(torch, "compile", note)
    model = small.model()
    compile_layers(model)
    ids = torch.arange(8)[None]
    with torch.no_grad():
        model(ids)
    assert not calls
    model(ids)
    assert len(calls) == model.config.num_hidden_layers


def learned(model: nn.Module) -> list[tuple[float, torch.Tensor]]:
    """Of each shape the loss, and the gradients of all parameters in one row."""
    found = []
    for shape in SHAPES:
        ids = torch.randint(6, 400, shape, generator=torch.Generator().manual_seed(shape[1]))
        model.zero_grad()
        loss = target_loss_sum(model, Batch(ids, torch.ones_like(ids), torch.ones_like(ids, dtype=torch.bool)))
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        found.append((loss.item(), torch.cat(gradients)))
    return found


# PyTorch's compiler warns of PyTorch.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "FullFineTune" else pytest.mark.nightly)
        for name in dict.fromkeys(m["method"]["type"] for m in METHODS.values())
    ],
)
def test_compiled_layers_learn_what_plain_ones_learn(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.utils import counters

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    folder = tiny.write_model(tmp_path / "model", layers=LAYERS)
    spec = asked(tmp_path, METHODS[name]["method"])
    nets = []
    for fast in (False, True):
        torch.manual_seed(0)
        nets.append(build(spec, folder, CPU, Form(compiled=fast)))
    torch._dynamo.reset()
    counters.clear()
    wanted, found = learned(nets[0]), learned(nets[1])
    if name in PROGRAMS:
        assert counters["stats"]["unique_graphs"] == PROGRAMS[name]
    for (loss, gradients), (own_loss, own) in zip(found, wanted, strict=True):
        assert abs(loss - own_loss) < 1e-5 * own_loss
        assert (gradients - own).norm() / own.norm() < 1e-5
