"""The matrix of methods and objectives: each pair that the CRD takes learns, and resumes bit for bit. The methods' own
matrix, with SFT, is test_methods.py."""

from __future__ import annotations

import pytest

from tests.cells import cells
from tests.trainer.combinations import ALLOWED
from tests.trainer.each_example import REWARDED
from tests.trainer.ranks import Results, assert_resumed

RANKS = {"script": "combinations.py", "ranks": 1, "shown": r"(?i)\w+-(LoRA|FullFineTune)-\w+"}
SHOWN = [(objective, method) for objective, method in ALLOWED if method in ("LoRA", "FullFineTune")]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(("objective", "method"), cells(ALLOWED, SHOWN))
def test_it_learns_and_resumes_bit_for_bit(results: Results, objective: str, method: str) -> None:
    name = f"{objective}-{method}".lower()
    assert f"{name}-error" not in results, results[f"{name}-error"]
    losses = list(results[f"{name}-whole-1"]["losses"].values())
    assert losses[-1] < losses[0] or objective in REWARDED
    assert_resumed(results, name)
