"""The Fisher information against finite differences, kept in the run directory, measured again where it is damaged; and
the term made of it against the formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from finetune_artifacts import Store, open_store
from finetune_trainer.engine.agree import Agreement
from finetune_trainer.engine.batch import collate
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.loss import target_loss_sum
from finetune_trainer.retention.ewc import EWC
from finetune_trainer.retention.fisher import Fisher, chosen, fisher, measure
from tests.trainer import small
from tests.trainer.test_retention_kl import RECORDS, Alone, Records

HERE = Place(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))


class Digested(Records):
    digests = np.array([11, 22, 33, 44, 55], dtype=np.uint64)
    lengths = np.array([len(ids) for ids, _ in RECORDS], dtype=np.int64)


@pytest.fixture
def alone(tmp_path: Path) -> Any:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield Agreement()
    dist.destroy_process_group()


def sums(model: nn.Module, rows: list[int]) -> Fisher:
    return measure(cast(Any, Records()), rows, cast(Any, Alone(model)), HERE, pad_id=0, alive=lambda: None)


def test_it_is_the_squared_slope_of_the_log_likelihood() -> None:
    model, step = small.model(0), 2e-3
    found = sums(model, [2])
    batch = collate(cast(Any, Records()), [2], 0)
    parameters = dict(model.named_parameters())
    seen = 0
    for name in ("model.layers.1.mlp.down_proj.weight", "model.norm.weight", "lm_head.weight"):
        flat, importance = parameters[name].detach().reshape(-1), found[name].reshape(-1)
        for place in importance.topk(3).indices.tolist():
            before, losses = float(flat[place]), []
            for sign in (1, -1):
                flat[place] = before + sign * step
                with torch.no_grad():
                    losses.append(float(target_loss_sum(model, batch).double()))
            flat[place] = before
            slope = (losses[0] - losses[1]) / (2 * step)
            assert float(importance[place]) == pytest.approx(slope**2, rel=0.05)
            seen += slope**2 > 1e-3
    assert seen >= 5


def test_records_add_up_one_by_one_and_frozen_weights_have_none() -> None:
    model = small.model(0).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layers.1" in name)
    together, apart = sums(model, [0, 1, 4]), [sums(model, [row]) for row in (0, 1, 4)]
    assert all("layers.1" in name for name in together)
    assert model.training
    for name, part in together.items():
        assert torch.allclose(part, sum(found[name] for found in apart), rtol=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_records_are_chosen_by_what_they_are() -> None:
    records: Any = Digested()
    first = chosen(records, 3)
    assert len(set(first)) == 3
    assert sorted(chosen(records, 100)) == [0, 1, 2, 3, 4]

    class Turned(Digested):
        digests = Digested.digests[::-1]

    assert [4 - row for row in chosen(cast(Any, Turned()), 3)] == first


@pytest.fixture
def ask(alone: Any, tmp_path: Path) -> Any:
    """Asks as an attempt does, of a model that has been trained by so much."""

    def asked(moved: float, samples: list[int]) -> Fisher:
        model = small.model(0)
        with torch.no_grad():
            model.lm_head.weight += moved
        strategy: Any = Alone(model)
        run, scratch = store(tmp_path), tmp_path / "scratch"
        records: Any = Digested()
        return fisher(records, samples, strategy, run, scratch, HERE, alone, pad_id=0, alive=lambda: None)

    return asked


def store(root: Path) -> Store:
    (root / "run").mkdir(exist_ok=True)
    return open_store(f"file://{root}/run")


def test_it_is_measured_once_and_read_by_whoever_resumes(ask: Any, tmp_path: Path) -> None:
    first = ask(0.0, [0, 1])
    assert {name: part / 2 for name, part in sums(small.model(0), [0, 1]).items()}.keys() == first.keys()
    again, other = ask(0.5, [0, 1]), ask(0.5, [0, 2])
    assert all(torch.equal(again[name], first[name]) for name in first)
    assert not all(torch.equal(other[name], first[name]) for name in first)
    assert len(list((tmp_path / "run" / "retention").glob("fisher-*.safetensors"))) == 2


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_file_is_measured_again(ask: Any, tmp_path: Path, damage: str) -> None:
    first = ask(0.0, [0, 1])
    (path,) = (tmp_path / "run" / "retention").glob("fisher-*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content[:1000] if damage == "cut" else bytes(content))
    again = ask(0.0, [0, 1])
    assert all(torch.equal(again[name], first[name]) for name in first)
    assert path.stat().st_size == len(content)


def test_the_term_is_the_formula() -> None:
    now = {"a": nn.Parameter(torch.tensor([1.5, 1.0])), "b": nn.Parameter(torch.tensor([2.0]))}
    start, importance = (
        {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([2.0])},
        {
            "a": torch.tensor([4.0, 0.5]),
            "b": torch.tensor([9.0]),
        },
    )
    term = EWC(10.0, now, start, importance, first=True)
    assert float(term.add(cast(Any, Alone(nn.Identity())), 0)) == pytest.approx(5 * (4 * 0.25 + 0.5))
    assert now["a"].grad is not None
    assert now["a"].grad.tolist() == pytest.approx([20.0, -5.0])
    others = EWC(10.0, now, start, importance, first=False)
    assert float(others.add(cast(Any, Alone(nn.Identity())), 0)) == 0
