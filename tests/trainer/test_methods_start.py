"""A start taken out of the base stays right where another machine would have computed another one; what Freeze frees."""

from __future__ import annotations

import pytest
import torch

from finetune_api.method import Freeze, Init, LoRA
from finetune_trainer.common.errors import SpecError
from finetune_trainer.methods.full import Frozen
from finetune_trainer.methods.lora import add_lora
from finetune_trainer.methods.remember import memory_of
from finetune_trainer.methods.select import free, layer_of
from tests.trainer import small

# peft 0.21 reads an attribute that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
IDS = torch.arange(5, 25).unsqueeze(0)
NAMES = ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"]  # fmt: skip


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return found


@pytest.mark.parametrize("init", [Init.PISSA, Init.OLORA])
def test_the_start_is_the_base_model(init: Init) -> None:
    assert torch.allclose(logits(add_lora(small.model(), LoRA(rank=4, init=init))), logits(small.model()), atol=1e-5)


@pytest.mark.parametrize("fresh", [True, False])
def test_another_start_moves_the_base_and_not_the_model(fresh: bool) -> None:
    """As if rank 0, or the machine that wrote the checkpoint, had chosen the other sign of each singular vector, and
    stretched them."""
    model = add_lora(small.model(), LoRA(rank=4, init=Init.PISSA))
    memory = memory_of(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.mul_(-2)
        if not fresh:
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    memory.tensors()[name]["start"].copy_(parameter)
    assert not torch.allclose(logits(model), logits(small.model()), atol=1e-2)
    memory.restored(fresh=fresh)
    assert torch.allclose(logits(model), logits(small.model()), atol=1e-5)


def test_an_equal_start_changes_nothing() -> None:
    model = add_lora(small.model(), LoRA(rank=4, init=Init.PISSA))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    memory_of(model).restored(fresh=False)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ("freeze", "chosen"),
    [
        (Freeze(last_layers=1), {NAMES[2]}),
        (Freeze(last_layers=5), {NAMES[1], NAMES[2]}),
        (Freeze(embeddings=True), {NAMES[0]}),
        (Freeze(lm_head=True), {NAMES[0]}),
        (Freeze(trainable=[r"norm"]), {NAMES[3]}),
        (Freeze(trainable=["nowhere"]), set()),
    ],
)
def test_what_freeze_frees(freeze: Freeze, chosen: set[str]) -> None:
    """The head is tied here: it means the embeddings."""
    assert free(NAMES, freeze) == chosen


def test_layers_by_name() -> None:
    assert [layer_of(name) for name in NAMES] == [None, 0, 1, None]


def test_nothing_to_train_gets_words() -> None:
    with pytest.raises(SpecError, match="nothing would train"):
        Frozen(Freeze(trainable=["nowhere"])).apply(small.model())
