"""What every object of a ModelDeployment carries: its owner, and labels that find it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_operator.core.builders.restricted import owner_reference
from finetune_operator.core.names import (
    KIND_DEPLOYMENT,
    LABEL_DEPLOYMENT,
    LABEL_MANAGED_BY,
    LABEL_REVISION,
    LABEL_ROLE,
    MANAGER,
    ROLE_ENGINE,
)
from finetune_operator.core.types import Obj


def serving_labels(md: Obj, role: str, revision: str | None = None) -> dict[str, str]:
    labels = {
        LABEL_MANAGED_BY: MANAGER,
        LABEL_DEPLOYMENT: md["metadata"]["name"],
        LABEL_ROLE: role,
    }
    return labels if revision is None else labels | {LABEL_REVISION: revision}


def serving_metadata(
    md: Obj, name: str, role: str, revision: str | None = None, annotations: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Metadata of a child in the ModelDeployment's namespace."""
    meta: dict[str, Any] = {
        "name": name,
        "namespace": md["metadata"]["namespace"],
        "labels": serving_labels(md, role, revision),
        "ownerReferences": [owner_reference(md, kind=KIND_DEPLOYMENT)],
    }
    return meta | {"annotations": dict(annotations)} if annotations else meta


def revision_labels(name: str, revision: str) -> dict[str, str]:
    """What selects the engine pods of one revision. The role is part of it: a check Job's pods carry the revision,
    too, and must never be taken for a backend."""
    return {
        LABEL_MANAGED_BY: MANAGER,
        LABEL_DEPLOYMENT: name,
        LABEL_ROLE: ROLE_ENGINE,
        LABEL_REVISION: revision,
    }


def revision_selector(name: str, revision: str) -> str:
    """The same as text, for the scale subresource."""
    return ",".join(f"{key}={value}" for key, value in sorted(revision_labels(name, revision).items()))
