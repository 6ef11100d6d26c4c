"""The same fake API server as for the layer below."""

from __future__ import annotations

from tests.kube.conftest import REPO, world

__all__ = ["REPO", "world"]
