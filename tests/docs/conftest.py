from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.cluster import ApiServer
from tests.chart.helm import Helm

NAMESPACES = ("demo", "demo-conflict", "team-a")


@pytest.fixture(scope="session")
def namespaces(apiserver: ApiServer) -> ApiServer:
    """The namespaces that examples and pages speak of. No controller runs here, so they are never deleted."""
    for name in NAMESPACES:
        apiserver.ensure_namespace(name)
    return apiserver


@pytest.fixture(scope="session")
def helm(need: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(need("helm"), tmp_path_factory.mktemp("helm-home"))
