"""A reward model's terms against the formulas written out, and its head."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from finetune_api.method import LoRA
from finetune_api.objective import Head
from finetune_api.objective_reward import RewardSettings
from finetune_trainer.engine.batch import without_targets
from finetune_trainer.engine.model import load_base
from finetune_trainer.engine.scorer import is_scorer
from finetune_trainer.methods.lora import add_lora
from finetune_trainer.objectives.pairs import Pairs
from finetune_trainer.objectives.reward import PARTS, Reward
from tests.trainer import small
from tests.trainer.test_objectives_dpo import PAIRS
from tests.trainer.test_objectives_pairs import joined

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
SCORES = torch.tensor([1.0, -0.5, 0.25, 2.0])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.save_model(tmp_path_factory.mktemp("reward"))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_losses_are_the_formulas() -> None:
    sums = Reward(RewardSettings(margin="0.5", centering="0.1")).compare(SCORES, torch.ones(4))
    pairs = [(1.0, 0.25), (-0.5, 2.0)]
    expected = sum(-math.log(sigmoid(c - r - 0.5)) + 0.1 * (c + r) ** 2 for c, r in pairs)
    assert float(sums.loss) == pytest.approx(expected, rel=1e-6)
    parts = dict(zip(PARTS, map(float, sums.parts), strict=True))
    assert parts == {"preferenceAccuracy": 1, "rewardMargin": -1.75, "chosenReward": 0.5, "rejectedReward": 2.25}


@pytest.mark.parametrize("field", [{"margin": "0"}, {"centering": "-1"}])
def test_what_has_no_meaning_is_refused(field: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        RewardSettings.model_validate(field)


@pytest.mark.parametrize("groups", [[[0], [1], [2]], [[2, 0], [1]]])
def test_sums_do_not_depend_on_grouping(base: Path, groups: list[list[int]]) -> None:
    objective, pairs = Reward(RewardSettings()), Pairs(joined(PAIRS))
    model = load_base(base, torch.float32, head=Head()).eval()
    pad = model.config.pad_token_id
    with torch.no_grad():
        whole = objective.sums(model, objective.collate(pairs, [0, 1, 2], pad))
        apart = [objective.sums(model, objective.collate(pairs, group, pad)) for group in groups]
        assert float(whole.parts[1]) != 0
    assert sum(float(part.loss) for part in apart) == pytest.approx(float(whole.loss), rel=1e-5)


def test_an_empty_batch_adds_nothing(base: Path) -> None:
    objective = Reward(RewardSettings(margin="1"))
    model = load_base(base, torch.float32, head=Head())
    sums = objective.sums(model, without_targets(objective.collate(Pairs(joined(PAIRS)), [0], 0)))
    sums.loss.backward()  # type: ignore[no-untyped-call]
    assert sums.loss.item() == 0
    assert all(float(p.grad.abs().max()) == 0 for p in model.parameters() if p.grad is not None)


def test_the_head_trains_beside_an_adapter_and_is_no_part_of_it(base: Path) -> None:
    plain = load_base(base, torch.float32, head=Head())
    assert is_scorer(plain)
    assert not is_scorer(small.model(0))
    adapted = add_lora(plain, LoRA(rank=2, alpha=4))
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert [name for name in trained if "score" in name] == ["base_model.model.score.modules_to_save.default.weight"]
    assert any("lora_A" in name for name in trained)
