"""Answers that are written in training: whose they are, what they are worth, and that cutting changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from finetune_api.objective_policy import GRPOSettings, PolicySettings, RLOOSettings
from finetune_trainer.engine.batch import Batch, Example
from finetune_trainer.engine.seeding import seed_micro_batch
from finetune_trainer.objectives.policy import Policy
from tests.trainer import small

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
REWARDS = [{"type": "Regex", "pattern": "e"}, {"type": "ExactMatch", "weight": "2"}]


def settings(**fields: Any) -> dict[str, Any]:
    return {"rewards": REWARDS, "generations": 3, "maxNewTokens": 4, **fields}


def examples() -> list[Example]:
    eos = small.tokenizer().eos_token_id
    rows = (([5, 6, 7], [8, eos]), ([9], [10, 11, eos]), ([12, 13], [14, eos]))
    return [
        (np.array(prompt + answer, dtype=np.int32), np.arange(len(prompt + answer)) >= len(prompt))
        for prompt, answer in rows
    ]


def objective(found: PolicySettings | None = None) -> Policy:
    made = Policy(found or GRPOSettings.model_validate(settings()))
    made.equip(small.tokenizer(), examples(), 0)
    return made


def sampled(made: Policy, model: Any, indices: list[int], position: int = 0) -> Batch:
    seed_micro_batch(7, 0, 2, position)
    return made.sample(model, made.collate(examples(), indices, 0), lambda: None)


def texts(batch: Batch) -> list[list[int]]:
    return [ids[mask.bool()].tolist() for ids, mask in zip(batch.ids_bt, batch.attention_bt, strict=True)]


@pytest.fixture(scope="module")
def model() -> Any:
    return small.model(0)


def test_every_prompt_is_answered_as_often_as_is_asked(model: Any) -> None:
    found = sampled(objective(), model, [0, 1])
    assert [row[:3] for row in texts(found)[:3]] == [[5, 6, 7]] * 3
    assert [row[0] for row in texts(found)[3:]] == [9] * 3
    answers = [tuple(row) for row in texts(found)]
    assert len(set(answers)) > 2, "they are drawn"
    assert found.rewards_bf is not None
    assert found.rewards_bf.shape == (6, 2)
    decoded = [small.tokenizer().decode(row[3:], skip_special_tokens=True).strip() for row in texts(found)[:3]]
    assert found.rewards_bf[:3, 0].tolist() == [float("e" in text) for text in decoded]


def test_how_a_batch_is_cut_changes_no_answer(model: Any) -> None:
    whole = texts(sampled(objective(), model, [0, 1, 2]))
    assert texts(sampled(objective(), model, [0])) + texts(sampled(objective(), model, [1, 2], 1)) == whole


@pytest.mark.parametrize(
    "found", [GRPOSettings.model_validate(settings(loss="DrGRPO")), RLOOSettings.model_validate(settings())]
)
def test_sums_do_not_depend_on_grouping(model: Any, found: PolicySettings) -> None:
    made = objective(found)
    with torch.no_grad():
        whole = made.sums(model, sampled(made, model, [0, 1, 2]))
        apart = [made.sums(model, sampled(made, model, [i], i)) for i in range(3)]
    assert sum(float(part.loss) for part in apart) == pytest.approx(float(whole.loss), abs=1e-5)
    for number in range(len(made.parts)):
        total = sum(float(part.parts[number]) for part in apart)
        assert total == pytest.approx(float(whole.parts[number]), abs=1e-5)


def test_the_loss_is_the_reward_with_the_other_sign_and_keeps_its_gradient() -> None:
    made, model = objective(GRPOSettings.model_validate(settings(rewards=REWARDS[:1]))), small.model(0)
    model.requires_grad_(True)
    batch = sampled(made, model, [0, 1, 2])
    assert batch.rewards_bf is not None
    assert batch.predicts_n is not None
    found = made.sums(model, batch)
    found.loss.backward()  # type: ignore[no-untyped-call]
    assert float(found.loss.detach()) == pytest.approx(-float(batch.rewards_bf.sum()) / 3, abs=1e-6)
    slopes = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    row_n = batch.predicts_n // batch.ids_bt.shape[1]
    compared = made.compare(made._log_probs(model, batch), None, row_n, batch.rewards_bf)
    compared.loss.backward()  # type: ignore[no-untyped-call]
    assert any(bool(slope.any()) for slope in slopes)
    assert all(
        torch.equal(slope, p.grad)
        for slope, p in zip(slopes, (p for p in model.parameters() if p.grad is not None), strict=True)
    )


def test_a_better_answer_becomes_likelier(model: Any) -> None:
    """The gradient of RLOO's loss is that of the log-likelihoods times their advantages."""
    made = objective(RLOOSettings.model_validate(settings()))
    log_probs_n = torch.tensor([-1.0, -2.0, -0.5, -3.0], requires_grad=True)
    rewards_bf = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    sums = made.compare(log_probs_n, None, torch.tensor([0, 0, 1, 2]), rewards_bf)
    sums.loss.backward()  # type: ignore[no-untyped-call]
    # Rewards 1, 2, 0 (an exact match counts twice): less the mean of the others 0, 1.5, -1.5; a third each.
    assert log_probs_n.grad is not None
    assert log_probs_n.grad.tolist() == pytest.approx([0, 0, -0.5, 0.5])
    parts = dict(zip(made.parts, map(float, sums.parts), strict=True))
    assert parts == pytest.approx(
        {
            "reward": 1,
            "rewardRegex": 1 / 3,
            "rewardExactMatch": 1 / 3,
            "completionTokens": 4 / 3,
            "rewardStd": 1,
            "kl": 0,
        }
    )


def test_held_out_prompts_are_judged_by_the_likeliest_answer(model: Any) -> None:
    made = objective()
    with torch.no_grad():
        first, again = (made.judge(model, made.collate(examples(), [0, 1, 2], 0), lambda: None) for _ in range(2))
    parts = dict(zip(made.parts, map(float, first.parts), strict=True))
    assert float(first.loss) == -parts["reward"] == float(again.loss)
    assert parts["reward"] == parts["rewardRegex"] + 2 * parts["rewardExactMatch"]
    assert np.isnan([parts["rewardStd"], parts["kl"]]).all(), "they mean nothing here, and are not written down"
