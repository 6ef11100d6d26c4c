from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chart.helm import Helm


@pytest.fixture(scope="session")
def helm(need: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(need("helm"), tmp_path_factory.mktemp("helm-home"))
