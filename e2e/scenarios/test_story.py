"""The story of the demo on the real cluster, training a to g and serving A to H, every claim asserted where it is told;
and the chain in brief, for `make test`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.cluster import Cluster, chart
from e2e.demo import tell
from e2e.story.narrator import Narrator
from e2e.story.stage import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3000)]


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(Cluster.current(), Narrator(quiet=True), namespace="demo")
    yield stage
    stage.narrator.table("What was seen", ["", "what", "figure"], [list(fact) for fact in stage.facts])


@pytest.mark.parametrize(
    ("letters", "brief"),
    [
        pytest.param("abcdefgABCEH", True, id="brief"),
        pytest.param("abcdefgABCDEFGH", False, id="whole", marks=pytest.mark.nightly),
    ],
)
def test_the_story_holds(stage: Stage, letters: str, brief: bool) -> None:
    try:
        tell(stage, set(letters), brief=brief)
    finally:
        chart.install(stage.cluster)
