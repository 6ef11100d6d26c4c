"""The observed share of the traffic."""

from __future__ import annotations

from finetune_operator.core.serving.analysis.totals import Totals
from finetune_operator.core.serving.analysis.weight import observed_weight


def test_the_canarys_percent_of_all_requests() -> None:
    assert observed_weight(Totals(75), Totals(25)) == 25
    assert observed_weight(Totals(75), Totals(0)) == 0
    assert observed_weight(None, Totals(25)) == 100


def test_nothing_is_known_before_the_first_request() -> None:
    assert observed_weight(Totals(0), Totals(0)) is None
    assert observed_weight(None, Totals(0)) is None
