"""KTO's terms against the formulas written out, and what it looks at ahead of a step."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from finetune_api.objective_kto import KTOSettings
from finetune_trainer.engine.batch import without_targets
from finetune_trainer.objectives.base import LooksAhead
from finetune_trainer.objectives.dpo import DPO
from finetune_trainer.objectives.kto import KTO, PARTS
from tests.trainer import small
from tests.trainer.test_objectives_ratings import RATED, ratings

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
RATIOS = torch.tensor([1.0, -0.5, 0.25, 2.0])
GOOD = torch.tensor([True, True, False, False])
KNOWN = np.full((3, 2), -7.5, dtype=np.float32)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize(("ahead", "kl"), [(0.3, 0.3), (-0.7, 0.0)])
def test_losses_are_the_formulas(ahead: float, kl: float) -> None:
    objective = KTO(KTOSettings(beta="0.5", desirable_weight="2", undesirable_weight="3"))
    sums = objective.compare(RATIOS, GOOD, torch.tensor(ahead), torch.ones(4))
    expected = sum(
        2 * (1 - sigmoid(0.5 * (ratio - kl))) if good else 3 * (1 - sigmoid(0.5 * (kl - ratio)))
        for ratio, good in zip(RATIOS.tolist(), GOOD.tolist(), strict=True)
    )
    assert float(sums.loss) == pytest.approx(expected, rel=1e-6)
    parts = dict(zip(PARTS, map(float, sums.parts), strict=True))
    right = sum((r > kl) == good for r, good in zip(RATIOS.tolist(), GOOD.tolist(), strict=True))
    assert parts["ratingAccuracy"] == right
    assert parts["signedReward"] == pytest.approx(0.5 * (1.0 - 0.5 - 0.25 - 2.0))
    assert parts["kl"] == pytest.approx(4 * kl)


@pytest.mark.parametrize("field", [{"beta": "0"}, {"desirableWeight": "0"}, {"undesirableWeight": "-1"}])
def test_what_has_no_meaning_is_refused(field: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        KTOSettings.model_validate(field)


@pytest.mark.parametrize("groups", [[[0], [1], [2]], [[2, 0], [1]]])
def test_sums_do_not_depend_on_grouping(groups: list[list[int]]) -> None:
    objective, found, model = KTO(KTOSettings()), ratings(reference=KNOWN), small.model(0)
    with torch.no_grad():
        whole = objective.collate(found, range(len(RATED)), 0)
        apart = [objective.collate(found, group, 0) for group in groups]
        ahead = objective.ahead(model, whole)
        assert sum(float(objective.ahead(model, part)) for part in apart) == pytest.approx(float(ahead), rel=1e-5)
        mean = ahead / len(RATED)
        expected = objective.sums(model, replace(whole, ahead=mean))
        sums = [objective.sums(model, replace(part, ahead=mean)) for part in apart]
    assert sum(float(part.loss) for part in sums) == pytest.approx(float(expected.loss), rel=1e-5)
    assert isinstance(objective, LooksAhead)
    assert not hasattr(DPO, "ahead")


def test_an_empty_batch_adds_nothing() -> None:
    objective = KTO(KTOSettings())
    model = small.model(0)
    batch = without_targets(objective.collate(ratings(reference=KNOWN), [0], 0))
    with torch.no_grad():
        assert float(objective.ahead(model, batch)) == 0
    sums = objective.sums(model, replace(batch, ahead=torch.tensor(0.5)))
    sums.loss.backward()  # type: ignore[no-untyped-call]
    assert sums.loss.item() == 0
    assert all(float(part) == 0 for part in sums.parts)
    assert all(float(p.grad.abs().max()) == 0 for p in model.parameters() if p.grad is not None)
