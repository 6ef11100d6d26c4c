"""Activation checkpointing changes what is kept, not what is computed: loss and gradients are equal bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.training import ActivationCheckpointing
from finetune_trainer.common.errors import SpecError
from finetune_trainer.engine import model as models
from finetune_trainer.engine.batch import Batch
from finetune_trainer.engine.loss import target_loss_sum
from finetune_trainer.engine.recompute import recompute_layers
from tests.trainer import runs, tiny

CPU = torch.device("cpu")
HOW = (ActivationCheckpointing.NONE, ActivationCheckpointing.SELECTIVE, ActivationCheckpointing.FULL)
METHODS = {
    "LoRA": {"type": "LoRA", "lora": {"rank": 4, "alpha": 8, "dropout": "0.1"}},
    "FullFineTune": {"type": "FullFineTune", "lora": None},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("tiny") / "model")


def spec(method: str) -> FineTuneJobSpec:
    document = runs.spec(Path("/model"), Path("/data")) | {"method": METHODS[method]}
    return FineTuneJobSpec.model_validate(document)


def gradients(
    method: str, folder: Path, recompute: ActivationCheckpointing
) -> tuple[float, dict[str, torch.Tensor], int]:
    """(loss, gradients by name, tensors that autograd kept)."""
    torch.manual_seed(3)
    net = models.build(spec(method), folder, CPU, models.Form(recompute=recompute))
    ids = torch.arange(2 * 24).reshape(2, 24) % 400 + 6
    batch = Batch(ids, torch.ones_like(ids), torch.ones_like(ids, dtype=torch.bool))
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = target_loss_sum(net, batch)
    loss.backward()
    return float(loss.detach()), {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}, kept


@pytest.mark.parametrize("how", HOW[1:])
@pytest.mark.parametrize("method", list(METHODS))
def test_loss_and_gradients_are_the_same_and_less_is_kept(
    folder: Path, method: str, how: ActivationCheckpointing
) -> None:
    """LoRA's dropout included: its random numbers are drawn again as they were."""
    loss, grads, kept = gradients(method, folder, ActivationCheckpointing.NONE)
    again_loss, again, again_kept = gradients(method, folder, how)
    assert again_loss == loss
    assert grads
    assert again.keys() == grads.keys()
    assert all(torch.equal(again[name], grads[name]) for name in grads)
    assert again_kept < kept / 2


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return func(*args, **(kwargs or {}))


def backward_products(folder: Path, how: ActivationCheckpointing) -> int:
    torch.manual_seed(3)
    net = models.build(spec("FullFineTune"), folder, CPU, models.Form(recompute=how))
    ids = torch.arange(2 * 24).reshape(2, 24) % 400 + 6
    loss = target_loss_sum(net, Batch(ids, torch.ones_like(ids), torch.ones_like(ids, dtype=torch.bool)))
    with Products() as products:
        loss.backward()
    return products.count


def test_selective_computes_no_large_product_again(folder: Path) -> None:
    none, selective, full = (backward_products(folder, how) for how in HOW)
    assert selective == none < full


def test_a_model_that_cannot_is_refused_in_words() -> None:
    with pytest.raises(SpecError, match=r"spec\.training\.activationCheckpointing.*Linear.*use None"):
        recompute_layers(torch.nn.Linear(2, 2), ActivationCheckpointing.FULL)
