"""Our CRDs, and the one of the Gateway API that we write objects of: each parsed once, and not to be changed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

_REPO = Path(__file__).resolve().parents[1]
_GATEWAY = "helm/finetune-operator/charts/gateway-api/crds/gateway.networking.k8s.io_"
OURS = ("finetunejobs", "modeldeployments")


@cache
def crd(plural: str) -> dict[str, Any]:
    path = f"crds/{plural}.yaml" if plural in OURS else f"{_GATEWAY}{plural}.yaml"
    return dict(yaml.load((_REPO / path).read_text(), Loader=yaml.CSafeLoader))
