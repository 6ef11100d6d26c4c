"""The interval that is used: the spec's, or one that follows what checkpoints cost."""

from __future__ import annotations

import pytest

from finetune_trainer.checkpoint.interval import FIRST_SECONDS, young_daly
from finetune_trainer.engine.cadence import Cadence

DAY = 24 * 3600.0


def test_a_duration_is_obeyed() -> None:
    cadence = Cadence("90s", DAY)
    cadence.cost(10.0)
    assert cadence.seconds() == 90.0


def test_auto_follows_the_measured_cost() -> None:
    cadence = Cadence("Auto", DAY)
    assert cadence.seconds() == FIRST_SECONDS
    cadence.cost(2.0)
    cadence.committed(5.0)
    assert cadence.seconds() == pytest.approx(young_daly(2.0, DAY))
    cadence.committed(400.0)
    assert cadence.seconds() == 800.0


def test_dearer_counts_at_once_cheaper_by_halves() -> None:
    cadence = Cadence("Auto", DAY)
    for seconds, counted in ((4.0, 4.0), (2.0, 3.0), (2.0, 2.5), (9.0, 9.0)):
        cadence.cost(seconds)
        assert cadence.seconds() == pytest.approx(young_daly(counted, DAY))
