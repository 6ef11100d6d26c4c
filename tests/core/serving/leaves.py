"""A ModelDeployment and what belongs to it, as the tests of its leaf modules need them."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune_api.deployment_status import ModelSource, RevisionRecord
from finetune_api.modeldeployment import ModelDeploymentSpec
from tests.core.build import CONFIG as TRAINING
from tests.core.build import merge, ts

CONFIG = replace(
    TRAINING,
    serving_image="vllm:1",
    gateway="finetune-system/finetune",
    gateway_domain="models.example.com",
)
DIGEST = "sha256:" + "ab" * 32


def modeldeployment(spec: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {
            "name": "bot",
            "namespace": "team",
            "uid": "uid-md",
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": ts(0),
            **meta,
        },
        "spec": merge({"model": {"uri": "s3://models/bot", "secretRef": {"name": "team-s3"}}}, spec or {}),
    }


def spec_of(md: dict[str, Any]) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate(md["spec"])


def source(**fields: Any) -> ModelSource:
    return ModelSource(**{"uri": "s3://models/bot", "digest": DIGEST, "secret": "team-s3", **fields})


def record(revision: str = "bcdfghjklm", **fields: Any) -> RevisionRecord:
    known = {"model": source(), "image": "vllm:1", "served_name": "bot", "created_at": ts(5)}
    return RevisionRecord(revision=revision, **{**known, **fields})


def stored(obj: dict[str, Any], **meta: Any) -> dict[str, Any]:
    """The object as an API server answers it."""
    out = copy.deepcopy(obj)
    out["metadata"] |= {"uid": "uid-x", "resourceVersion": "7", "generation": 3, "creationTimestamp": ts(6), **meta}
    return out


_GOLDEN = Path(__file__).parent / "golden"


def same_as_golden(name: str, obj: dict[str, Any]) -> None:
    """What is written once must not change under a running deployment: a difference here is a decision.

    `FINETUNE_UPDATE_GOLDEN=1 pytest …` writes the files anew.
    """
    path = _GOLDEN / f"{name}.json"
    text = json.dumps(obj, indent=2, sort_keys=True) + "\n"
    if os.environ.get("FINETUNE_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()
