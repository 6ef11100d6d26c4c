"""A fake API server with our CRD, and a client of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tests" / "sim"))

from fakeapi import World, install_crd  # noqa: E402

from finetune_operator.kube.client import Client  # noqa: E402
from tests.crds import OURS, crd  # noqa: E402
from tests.kube.builders import gateway_crd  # noqa: E402


@pytest.fixture
def world() -> World:
    world = World(nodes={"n1": {"nvidia.com/gpu": "8"}})
    world.api.create("", "namespaces", "", {"metadata": {"name": "team"}})
    for manifest in (*map(crd, OURS), gateway_crd()):
        install_crd(world.server, manifest)
    return world


@pytest.fixture
def client(world: World) -> Client:
    return Client(world.transport("operator"))
