"""Numbers for people."""

from __future__ import annotations

import pytest

from finetune_operator.core.serving.analysis.words import duration, percent


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0 ms"), (0.0123, "12.3 ms"), (0.41249, "412 ms"), (0.9996, "1 s"), (1.25, "1.25 s"), (2560.0, "2560 s")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("share", "words"), [(0.0, "0 %"), (0.001, "0.1 %"), (0.05217, "5.22 %"), (1.0, "100 %"), (0.00001, "0.001 %")]
)
def test_percents(share: float, words: str) -> None:
    assert percent(share) == words
