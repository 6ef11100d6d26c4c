"""The matrix of methods and objectives: each pair that the CRD takes learns, and resumes bit for bit. The methods' own
matrix, with SFT, is test_methods.py."""

from __future__ import annotations

from typing import Any

import pytest

from tests.trainer.combinations import ALLOWED
from tests.trainer.ranks import run_ranks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
Results = dict[str, Any]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    found: Results = run_ranks("combinations.py", tmp_path_factory.mktemp("combinations"), ranks=1, phases=1)
    return found


@pytest.mark.parametrize(("objective", "method"), ALLOWED)
def test_it_learns_and_resumes_bit_for_bit(results: Results, objective: str, method: str) -> None:
    name = f"{objective}-{method}".lower()
    assert f"{name}-error" not in results, results[f"{name}-error"]
    whole, first, second = (results[f"{name}{life}"] for life in ("-1", "-again-1", "-again-2"))
    losses = list(whole["losses"].values())
    assert losses[-1] < losses[0]
    assert (whole["code"], first["code"], second["code"]) == (0, 85, 0)
    assert first["losses"] | second["losses"] == whole["losses"]
    assert second["digest"] == whole["digest"]
    assert second["optimizer"] == whole["optimizer"]
