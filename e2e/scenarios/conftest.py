"""A namespace for each file's tests on the real cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.cluster import Cluster
from e2e.story.narrator import Narrator
from e2e.story.stage import Stage


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """In a namespace named after the file: `test_custom.py` has `custom`."""
    stage = Stage(Cluster.current(), Narrator(quiet=True), namespace=request.path.stem.removeprefix("test_"))
    stage.set_up()
    yield stage
    stage.kubectl("delete", "namespace", stage.namespace, "--wait=false")
