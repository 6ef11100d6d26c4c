"""DPO's terms against the formulas written out, and sums that do not depend on how pairs are grouped."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from finetune_api.method import LoRA, Method, MethodType
from finetune_api.objective import DPOLoss, DPOSettings
from finetune_trainer.engine.batch import without_targets
from finetune_trainer.methods.lora import add_lora
from finetune_trainer.objectives.dpo import DPO, PARTS, base_log_probs, has_base_inside, pair_losses
from finetune_trainer.objectives.pairs import Pairs
from tests.trainer import small
from tests.trainer.test_objectives_pairs import Written, joined

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
PAIRS: list[Written] = [
    ([5, 6, 7, 8], 2, [5, 6, 9], 2),
    ([3, 4], 1, [3, 10, 11, 12], 1),
    ([20, 21, 22], 1, [20, 30], 1),
]
RATIOS = torch.tensor([1.0, -0.5, 0.25, 2.0])
LENGTHS = torch.tensor([4, 2, 1, 8])


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def by_hand(loss: DPOLoss, beta: float, smoothing: float = 0.0) -> list[float]:
    found = []
    for chosen, rejected in ((0, 2), (1, 3)):
        margin = beta * float(RATIOS[chosen] - RATIOS[rejected])
        if loss is DPOLoss.HINGE:
            found.append(max(0.0, 1 - margin))
        elif loss is DPOLoss.IPO:
            means = [float(RATIOS[i]) / int(LENGTHS[i]) for i in (chosen, rejected)]
            found.append((means[0] - means[1] - 1 / (2 * beta)) ** 2)
        else:
            found.append(-(1 - smoothing) * math.log(sigmoid(margin)) - smoothing * math.log(sigmoid(-margin)))
    return found


@pytest.mark.parametrize("loss", list(DPOLoss))
@pytest.mark.parametrize("beta", ["0.1", "2"])
def test_losses_are_the_formulas(loss: DPOLoss, beta: str) -> None:
    found = pair_losses(RATIOS, LENGTHS, DPOSettings(loss=loss, beta=beta))
    assert found.tolist() == pytest.approx(by_hand(loss, float(beta)), rel=1e-5)


def test_label_smoothing_is_the_expectation_over_swapped_labels() -> None:
    found = pair_losses(RATIOS, LENGTHS, DPOSettings(beta="0.5", label_smoothing="0.2"))
    assert found.tolist() == pytest.approx(by_hand(DPOLoss.SIGMOID, 0.5, 0.2), rel=1e-5)


@pytest.mark.parametrize("field", [{"beta": "0"}, {"beta": "0.0"}, {"beta": "-1"}, {"labelSmoothing": "0.5"}])
def test_what_has_no_meaning_is_refused(field: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        DPOSettings.model_validate(field)


def test_parts_are_rewards_and_how_often_the_chosen_one_is_larger() -> None:
    sums = DPO(DPOSettings(beta="2")).compare(RATIOS, torch.zeros(4), LENGTHS)
    parts = dict(zip(PARTS, map(float, sums.parts), strict=True))
    assert parts == {"preferenceAccuracy": 1, "rewardMargin": -3.5, "chosenReward": 1.0, "rejectedReward": 4.5}


@pytest.fixture(scope="module")
def model() -> Any:
    return small.model(0)


@pytest.mark.parametrize("groups", [[[0, 1, 2]], [[0], [1], [2]], [[2, 0], [1]]])
def test_sums_do_not_depend_on_grouping(model: Any, groups: list[list[int]]) -> None:
    objective = DPO(DPOSettings())
    pairs = Pairs(joined(PAIRS), np.full((3, 2), -7.5, dtype=np.float32))
    with torch.no_grad():
        whole = objective.sums(model, objective.collate(pairs, [0, 1, 2], 0))
        apart = [objective.sums(model, objective.collate(pairs, group, 0)) for group in groups]
    assert sum(objective.weight(pairs, group) for group in groups) == 3
    assert sum(float(sums.loss) for sums in apart) == pytest.approx(float(whole.loss), rel=1e-5)
    for number, part in enumerate(whole.parts):
        assert sum(float(sums.parts[number]) for sums in apart) == pytest.approx(float(part), rel=1e-4)


def test_an_empty_batch_adds_nothing() -> None:
    objective = DPO(DPOSettings())
    known = Pairs(joined(PAIRS), np.zeros((3, 2), dtype=np.float32))
    model = small.model(0)
    sums = objective.sums(model, without_targets(objective.collate(known, [0], 0)))
    sums.loss.backward()  # type: ignore[no-untyped-call]
    assert sums.loss.item() == 0
    assert all(float(part) == 0 for part in sums.parts)
    assert all(float(p.grad.abs().max()) == 0 for p in model.parameters() if p.grad is not None)


def test_the_base_is_the_model_with_its_adapter_off() -> None:
    base = small.model(0)
    batch = DPO(DPOSettings()).collate(Pairs(joined(PAIRS)), [0, 1, 2], 0)
    from finetune_trainer.engine.loss import row_log_probs

    with torch.no_grad():
        expected = row_log_probs(base, batch)
    adapted = add_lora(small.model(0), LoRA(rank=2, alpha=4))
    trained = [p for p in adapted.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter += 0.1
    assert has_base_inside(adapted, Method(type=MethodType.LORA))
    assert not has_base_inside(adapted, Method.model_validate({"type": "LoRA", "lora": {"init": "PiSSA"}}))
    assert not has_base_inside(adapted, Method.model_validate({"type": "QLoRA", "lora": {"init": "LoftQ"}}))
    assert not has_base_inside(base, Method(type=MethodType.FULL_FINE_TUNE))
    assert torch.equal(base_log_probs(adapted, batch), expected)
    assert all(p.requires_grad for p in trained)
    with torch.no_grad():
        assert not torch.allclose(row_log_probs(adapted, batch), expected)
