"""GRPO's and RLOO's losses and gradients are those of TRL on the same answers, rewards and models."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune_api.objective_policy import GRPOSettings, PolicySettings, RLOOSettings
from finetune_trainer.engine.batch import Batch, collate
from finetune_trainer.engine.loss import target_logits
from finetune_trainer.objectives.policy import Policy
from tests.trainer import small

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]
ROWS = [([5, 6], [7, 8, 9]), ([5, 6], [10, 11]), ([3, 4, 12], [13]), ([3, 4, 12], [14, 15, 16, 17])]
"""(prompt, answer), two to each prompt."""
REWARDS = torch.tensor([[1.0], [0.0], [0.25], [1.5]])
TEMPERATURE = 0.7
COMMON: dict[str, Any] = {
    "use_cpu": True, "report_to": [], "bf16": False, "gradient_checkpointing": False, "disable_dropout": True,
    "num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 5, "temperature": TEMPERATURE,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any]:
    """(policy, base), not equal."""
    base = small.model(0)
    policy = copy.deepcopy(base)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return policy.train(), base.eval()


def rows() -> Batch:
    examples = [
        (np.array(prompt + answer, dtype=np.int32), np.arange(len(prompt + answer)) >= len(prompt))
        for prompt, answer in ROWS
    ]
    return collate(examples, range(len(ROWS)), 0)


def log_probs(model: Any, batch: Batch) -> torch.Tensor:
    assert batch.labels_n is not None
    logits = target_logits(model, batch) / TEMPERATURE
    return -torch.nn.functional.cross_entropy(logits, batch.labels_n, reduction="none")


def by_row(values_n: torch.Tensor) -> torch.Tensor:
    """(b, 5), as TRL has them."""
    found, start = torch.zeros(len(ROWS), 5), 0
    for row, (_, answer) in enumerate(ROWS):
        found[row, : len(answer)] = values_n[start : start + len(answer)]
        start += len(answer)
    return found


def theirs() -> dict[str, torch.Tensor]:
    """Prompts are padded on the left, answers on the right."""
    inputs = {
        name: torch.zeros(len(ROWS), width, dtype=torch.int64)
        for part, width in (("prompt", 3), ("completion", 5))
        for name in (f"{part}_ids", f"{part}_mask")
    }
    for row, (prompt, answer) in enumerate(ROWS):
        inputs["prompt_ids"][row, 3 - len(prompt) :] = torch.tensor(prompt)
        inputs["prompt_mask"][row, 3 - len(prompt) :] = 1
        inputs["completion_ids"][row, : len(answer)] = torch.tensor(answer)
        inputs["completion_mask"][row, : len(answer)] = 1
    return inputs


def ours(settings: PolicySettings, trained: tuple[Any, Any]) -> tuple[float, torch.Tensor]:
    """(loss, gradients)."""
    policy, base = trained
    policy = copy.deepcopy(policy)
    batch = rows()
    assert batch.predicts_n is not None
    with torch.no_grad():
        base_n = log_probs(base, batch) if float(settings.beta) else None
    row_n = batch.predicts_n // batch.ids_bt.shape[1]
    loss = Policy(settings).compare(log_probs(policy, batch), base_n, row_n, REWARDS).loss / 2
    loss.backward()
    return float(loss), gradients(policy)


def gradients(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])


def dataset() -> Any:
    from datasets import Dataset

    return Dataset.from_list([{"prompt": "a"}] * 4)


def no_reward(completions: list[str], **_: Any) -> list[float]:
    return [0.0] * len(completions)


@pytest.mark.parametrize("beta", ["0", "0.3"])
@pytest.mark.parametrize(("loss", "loss_type"), [("GRPO", "grpo"), ("DrGRPO", "dr_grpo")])
def test_grpo_equals_trl(trained: tuple[Any, Any], tmp_path: Path, loss: str, loss_type: str, beta: str) -> None:
    from trl import GRPOConfig, GRPOTrainer

    policy, base = trained
    trainer = GRPOTrainer(
        model=copy.deepcopy(policy),
        reward_funcs=no_reward,
        args=GRPOConfig(output_dir=str(tmp_path), loss_type=loss_type, beta=0.0, **COMMON),
        train_dataset=dataset(),
        processing_class=small.tokenizer(),
    )
    trainer.current_gradient_accumulation_steps, trainer.beta = 1, float(beta)
    inputs = theirs()
    pairs = REWARDS.reshape(2, 2)
    scale = (pairs.std(1, keepdim=True) + 1e-4) if loss == "GRPO" else 1
    inputs["advantages"] = ((pairs - pairs.mean(1, keepdim=True)) / scale).reshape(-1)
    with torch.no_grad():
        inputs["ref_per_token_logps"] = by_row(log_probs(base, rows()))
    expected = trainer._compute_loss(trainer.model.train(), inputs)
    expected.backward()

    settings = {"rewards": [{"type": "ExactMatch"}], "generations": 2, "maxNewTokens": 5, "temperature": "0.7"}
    found, slope = ours(GRPOSettings.model_validate({**settings, "loss": loss, "beta": beta}), trained)
    assert found == pytest.approx(float(expected), abs=1e-5)
    assert torch.allclose(slope, gradients(trainer.model), atol=1e-5)
    assert float(slope.abs().max()) > 1e-2


@pytest.mark.parametrize("beta", ["0", "0.3"])
def test_rloo_equals_trl(trained: tuple[Any, Any], tmp_path: Path, beta: str) -> None:
    from trl import RLOOConfig, RLOOTrainer

    policy, base = trained
    trainer = RLOOTrainer(
        model=copy.deepcopy(policy),
        reward_funcs=no_reward,
        args=RLOOConfig(output_dir=str(tmp_path), beta=0.0, **COMMON),
        train_dataset=dataset(),
        processing_class=small.tokenizer(),
    )
    inputs = theirs()
    with torch.no_grad():
        known, base_n = (log_probs(model, rows()) for model in (policy, base))
    away = by_row(known - base_n).sum(1)
    # As TRL's `_generate_and_score_completions` has it: the distance from the base is a part of the reward.
    pairs = (REWARDS.squeeze(1) - float(beta) * away).reshape(2, 2)
    inputs["advantages"] = (pairs - pairs.flip(1)).reshape(-1)
    inputs["old_logps"] = by_row(known).sum(1)
    expected = trainer._compute_loss(trainer.model.train(), inputs)
    expected.backward()

    settings = {"rewards": [{"type": "ExactMatch"}], "generations": 2, "temperature": "0.7", "beta": beta}
    found, slope = ours(RLOOSettings.model_validate(settings), trained)
    assert found == pytest.approx(float(expected), abs=1e-5)
    assert torch.allclose(slope, gradients(trainer.model), atol=1e-5)
    assert float(slope.abs().max()) > 1e-2
