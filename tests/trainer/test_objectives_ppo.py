"""PPO's terms against a reference that is written out, and a step's answers that are learned from several times."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from finetune_api.objective_ppo import PPOSettings
from finetune_trainer.engine import value
from finetune_trainer.engine.batch import Batch
from finetune_trainer.objectives.advantages import generalised, whitened
from finetune_trainer.objectives.policy import chosen
from finetune_trainer.objectives.ppo import PPO
from tests.trainer import small
from tests.trainer.test_objectives_policy import REWARDS, examples, sampled

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
LENGTHS = (3, 1, 4, 2)
"""Tokens of the answers of a made-up step."""
Floats = npt.NDArray[np.float64]


def settings(**fields: Any) -> PPOSettings:
    return PPOSettings.model_validate({"rewards": REWARDS, "generations": 2, "maxNewTokens": 4, **fields})


def drawn(seed: int, scale: float = 1.0) -> Floats:
    return np.random.default_rng(seed).normal(scale=scale, size=sum(LENGTHS))


def rows() -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(len(LENGTHS)), LENGTHS)


def written_out(rewards: Floats, values: Floats, lambda_: float) -> Floats:
    """Equation 16 as it stands: for each token the sum of all residuals that follow in its answer."""
    found = np.zeros_like(rewards)
    start = 0
    for length in LENGTHS:
        r, v = rewards[start : start + length], [*values[start : start + length], 0.0]
        residuals = [r[t] + v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            found[start + t] = sum(lambda_**later * residuals[t + later] for later in range(length - t))
        start += length
    return found


@pytest.mark.parametrize("lambda_", [0.0, 0.95, 1.0])
def test_advantages_are_those_of_the_paper(lambda_: float) -> None:
    rewards, values = drawn(1), drawn(2)
    found = generalised(*map(torch.tensor, (rewards, values, rows())), lambda_)
    assert found.tolist() == pytest.approx(written_out(rewards, values, lambda_).tolist(), abs=1e-6)


def test_all_ranks_together_have_the_mean_0_and_the_variance_1() -> None:
    parts = [torch.tensor(drawn(seed, 3.0) + 2).float() for seed in (1, 2, 3)]
    whole = torch.cat(whitened(parts, lambda sums: sums))
    assert float(whole.mean()) == pytest.approx(0, abs=1e-6)
    assert float(whole.var(correction=0)) == pytest.approx(1, abs=1e-3)
    totals: list[torch.Tensor] = []
    for mine in (parts[:1], parts[1:], []):
        whitened(mine, lambda sums: totals.append(sums.clone()) or sums)
    together = sum(totals, torch.zeros(3, dtype=torch.float64))
    apart = [*whitened(parts[:1], lambda _: together), *whitened(parts[1:], lambda _: together)]
    assert torch.allclose(torch.cat(apart), whole)


def batch(was: Floats, foreseen: Floats, advantages: Floats, returns: Floats, away: Floats) -> Batch:
    """Rows of a made-up step; only what `compare_tokens` looks at is there."""
    width = max(LENGTHS) + 1
    at = [row * width + token for row, length in enumerate(LENGTHS) for token in range(length)]
    ids = torch.zeros(len(LENGTHS), width, dtype=torch.int64)
    kept = torch.tensor(np.stack([was, foreseen, advantages, returns, away])).float()
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    return Batch(ids, ids, ids.bool(), predicts_n=torch.tensor(at), rewards_bf=rewards, rollout_kn=kept)


def reference(
    now: Floats, values: Floats, kept: list[Floats], reach: float, weight: float, value_reach: float
) -> Floats:
    """The loss of every token, in plain sums: Schulman et al. 2017, equations 7 and 9."""
    was, foreseen, advantages, returns, _ = kept
    found = []
    for lp, v, old, v_old, advantage, target in zip(now, values, was, foreseen, advantages, returns, strict=True):
        ratio = np.exp(lp - old)
        surrogate = min(ratio * advantage, min(max(ratio, 1 - reach), 1 + reach) * advantage)
        near = v_old + min(max(v - v_old, -value_reach), value_reach)
        found.append(-surrogate + weight * 0.5 * max((v - target) ** 2, (near - target) ** 2))
    return np.array(found)


def test_the_loss_is_that_of_the_paper() -> None:
    kept = [drawn(seed, 0.5) for seed in range(5)]
    now, values = kept[0] + drawn(7, 0.3), drawn(8, 0.5)
    found = PPO(settings(clipRange="0.1", valueWeight="0.3", valueClipRange="0.4")).compare_tokens(
        torch.tensor(now).float(), torch.tensor(values).float(), batch(*kept)
    )
    tokens = reference(now, values, kept, 0.1, 0.3, 0.4)
    answers = [tokens[rows() == row].mean() for row in range(len(LENGTHS))]
    assert float(found.loss) == pytest.approx(sum(answers) / 2, abs=1e-5)


def test_beyond_the_clip_there_is_nothing_to_gain() -> None:
    still = np.zeros(sum(LENGTHS))
    kept = [still, still, np.where(rows() == 0, 1.0, -1.0), still, still]
    now = torch.full((sum(LENGTHS),), 0.5, requires_grad=True)
    found = PPO(settings()).compare_tokens(now, torch.zeros(sum(LENGTHS)), batch(*kept))
    found.loss.backward()  # type: ignore[no-untyped-call]
    assert now.grad is not None
    assert now.grad[:3].tolist() == [0, 0, 0], "good answers, likelier by more than a fifth already"
    assert bool((now.grad[3:] > 0).all()), "bad answers become less likely"
    parts = dict(zip(PPO(settings()).parts, map(float, found.parts), strict=True))
    assert parts["clipped"] == pytest.approx(1 / 2)


@pytest.fixture
def model() -> Any:
    model = small.model(0)
    value.attach(model)
    torch.nn.init.normal_(model.value_head.weight, generator=torch.Generator().manual_seed(3))
    return model


def objective(**fields: Any) -> PPO:
    made = PPO(settings(**fields))
    made.equip(small.tokenizer(), examples(), 0)
    return made


def test_as_long_as_nothing_was_learned_nothing_has_moved(model: Any) -> None:
    made = objective()
    found = sampled(made, model, [0, 1, 2])
    assert found.rollout_kn is not None
    assert found.predicts_n is not None
    was_n, foreseen_n, advantages_n, returns_n, away_n = found.rollout_kn
    logits_nv, values_n = value.logits_and_values(model, found)
    assert torch.allclose(was_n, chosen(logits_nv, found), atol=1e-6)
    assert torch.allclose(foreseen_n, values_n, atol=1e-6)
    assert float(foreseen_n.detach().abs().max()) > 0
    assert torch.allclose(returns_n, advantages_n + foreseen_n)
    assert not away_n.any()
    parts = dict(zip(made.parts, map(float, made.sums(model, found).parts), strict=True))
    assert parts["clipped"] == 0


def test_what_is_foreseen_is_read_where_the_token_is_written(model: Any) -> None:
    """The head sees what the output head sees, and neither padding nor the rows beside change it."""
    made = objective()
    found = sampled(made, model, [0, 1])
    assert found.rollout_kn is not None
    states = model(input_ids=found.ids_bt, attention_mask=found.attention_bt, output_hidden_states=True)
    hidden = states.hidden_states[-1].reshape(-1, states.hidden_states[-1].shape[-1])[found.predicts_n]
    assert torch.allclose(found.rollout_kn[1], model.value_head(hidden).squeeze(-1), atol=1e-5)


def test_sums_do_not_depend_on_grouping(model: Any) -> None:
    made = objective()
    totals: list[torch.Tensor] = []

    def weighed(*groups: list[int]) -> list[Batch]:
        return made.weigh([sampled(made, model, g, g[0]) for g in groups], lambda sums: totals.append(sums) or sums)

    with torch.no_grad():
        (whole,), apart = weighed([0, 1, 2]), weighed([0], [1], [2])
        one, several = made.sums(model, whole), [made.sums(model, part) for part in apart]
    assert torch.allclose(*totals)
    assert sum(float(part.loss) for part in several) == pytest.approx(float(one.loss), abs=1e-5)
    for number in range(len(made.parts)):
        assert sum(float(part.parts[number]) for part in several) == pytest.approx(float(one.parts[number]), abs=1e-5)


def test_the_head_learns_to_foresee(model: Any) -> None:
    made = objective(valueWeight="1", valueClipRange="1000")
    (found,) = made.weigh([sampled(made, model, [0, 1, 2])], lambda sums: sums)
    optimizer = torch.optim.Adam(model.value_head.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        sums = made.sums(model, found)
        optimizer.zero_grad()
        sums.loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(sums.parts[made.parts.index("valueLoss")]))
    assert losses[-1] < losses[0] / 2
