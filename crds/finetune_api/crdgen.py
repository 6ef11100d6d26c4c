"""The CustomResourceDefinitions of both kinds. `python -m finetune_api.crdgen DIRECTORY...` writes them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from finetune_api.base import NAME_MAX_LENGTH, NAME_PATTERN, cel
from finetune_api.deployment_status import ModelDeploymentStatus
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_api.status import FineTuneJobStatus
from finetune_api.structural import structural

FROZEN = (
    ("model.uri", "spec.model.uri"),
    ("data", "spec.data"),
    ("method", "spec.method"),
    ("objective", "spec.objective"),
    ("retention", "spec.retention"),
    ("training", "spec.training"),
    ("trainer.type", "spec.trainer.type"),
    ("trainer.custom", "spec.trainer.custom"),
    ("checkpoint.uri", "spec.checkpoint.uri"),
    ("runId", "spec.runId"),
)
_OPTIONAL = {
    "spec.method": "spec",
    "spec.objective": "spec",
    "spec.retention": "spec",
    "spec.trainer.type": "spec.trainer",
    "spec.trainer.custom": "spec.trainer",
    "spec.checkpoint.uri": "spec.checkpoint",
    "spec.runId": "spec",
}


def _frozen_rule(label: str, path: str) -> dict[str, str]:
    begun = "has(oldSelf.status) && has(oldSelf.status.resolved)"
    if path in _OPTIONAL:
        same = f"has(self.{path}) == has(oldSelf.{path}) && (!has(self.{path}) || self.{path} == oldSelf.{path})"
    else:
        same = f"self.{path} == oldSelf.{path}"
    return cel(
        f"!({begun}) || ({same})",
        f"spec.{label} is frozen once the run has begun; create a new FineTuneJob for a different run",
        f".spec.{label}",
    )


_NAME_RULES = [
    cel(
        f"self.metadata.name.size() <= {NAME_MAX_LENGTH}",
        f"metadata.name must have at most {NAME_MAX_LENGTH} characters, so that the names of its Jobs and pods fit",
    ),
    cel(
        f"self.metadata.name.matches('{NAME_PATTERN}')",
        "metadata.name must start with a letter and hold only a-z, 0-9 and -",
    ),
]


def finetunejob_crd() -> dict[str, Any]:
    """The whole CustomResourceDefinition of FineTuneJob."""
    return _crd(
        "FineTuneJob",
        "ftj",
        "Fine-tunes a model, keeps the work through preemption, evaluates and publishes the result.",
        structural(FineTuneJobSpec, bounded=True),
        structural(FineTuneJobStatus, bounded=False),
        rules=[_frozen_rule(label, path) for label, path in FROZEN],
        subresources={"status": {}},
        columns=[
            _column("Phase", "string", ".status.phase"),
            _column("Progress", "string", ".status.progress.summary"),
            _column("Loss", "string", ".status.progress.lossText"),
            _column("ETA", "string", ".status.progress.eta"),
            _column("Restarts", "integer", ".status.restarts"),
            _column("GPUs", "integer", ".status.gpus"),
            _column("Reason", "string", ".status.reason", wide=True),
            _column("Checkpoint", "integer", ".status.checkpoint.step", wide=True),
            _column("Output", "string", ".status.output.uri", wide=True),
        ],
    )


def modeldeployment_crd() -> dict[str, Any]:
    """The whole CustomResourceDefinition of ModelDeployment."""
    return _crd(
        "ModelDeployment",
        "md",
        "Serves a published model with vLLM and lets each new revision in by canary weights, or takes it back.",
        structural(ModelDeploymentSpec, bounded=True),
        structural(ModelDeploymentStatus, bounded=False),
        rules=[],
        subresources={
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        columns=[
            _column("Phase", "string", ".status.phase"),
            _column("Stable", "string", ".status.stable.revision"),
            _column("Canary", "string", ".status.canary.revision"),
            _column("Weight", "integer", ".status.canary.weight"),
            _column("Step", "string", ".status.step"),
            _column("Ready", "string", ".status.ready"),
            _column("Reason", "string", ".status.reason", wide=True),
            _column("URL", "string", ".status.url", wide=True),
        ],
    )


def _crd(
    kind: str,
    short: str,
    description: str,
    spec: dict[str, Any],
    status: dict[str, Any],
    *,
    rules: list[dict[str, str]],
    subresources: dict[str, Any],
    columns: list[dict[str, Any]],
) -> dict[str, Any]:
    plural = kind.lower() + "s"
    schema = {
        "type": "object",
        "required": ["spec"],
        "description": description,
        "x-kubernetes-validations": [*_NAME_RULES, *rules],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.finetune.dev"},
        "spec": {
            "group": "finetune.dev",
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["all", "finetune"],
            },
            "versions": [
                {
                    "name": "v1alpha1",
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": [*columns, _column("Age", "date", ".metadata.creationTimestamp")],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _column(name: str, kind: str, path: str, *, wide: bool = False) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    return column | {"priority": 1} if wide else column


def to_yaml(crd: Mapping[str, Any]) -> str:
    header = "# Generated by `make generate` from crds/finetune_api. Do not edit.\n"
    return header + yaml.safe_dump(dict(crd), sort_keys=False, width=120, allow_unicode=True)


CRDS = {"finetunejobs": finetunejob_crd, "modeldeployments": modeldeployment_crd}


def main(directories: list[str]) -> None:
    """Writes every CRD to every directory."""
    for plural, crd in CRDS.items():
        text = to_yaml(crd())
        for directory in directories:
            (Path(directory) / f"{plural}.yaml").write_text(text)


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: python -m finetune_api.crdgen DIRECTORY...   (writes one file per kind into each)")
    main(sys.argv[1:])
