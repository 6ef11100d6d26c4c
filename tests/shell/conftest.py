"""Puts the fake API server within reach."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tests" / "sim"))

from fakeapi import World, install_crd  # noqa: E402


@pytest.fixture
def world() -> World:
    world = World(nodes={"n1": {"nvidia.com/gpu": "8"}})
    world.api.create("", "namespaces", "", {"metadata": {"name": "team"}})
    install_crd(world.server, yaml.safe_load((REPO / "crds" / "finetunejobs.yaml").read_text()))
    return world
