"""The real etcd and kube-apiserver, one for the session; and the fake beside it for comparison."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import tools
from e2e.cluster import ApiServer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sim"))


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ApiServer]:
    """Built from source on first use; the tests that ask for it carry the `apiserver` mark."""
    tools.ensure("kube-apiserver", "etcd", "kubectl")
    with ApiServer() as api:
        yield api
