"""From the pydantic types to a CustomResourceDefinition the API server accepts.

Pydantic speaks JSON Schema 2020-12; a structural schema is a small part of OpenAPI v3. What has a faithful form is
rewritten, anything else raises `CrdError` with the field's path: a constraint that vanished in silence would be worse
than no generator. `python -m finetune_api.crdgen` prints the CRD; its output is stable.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from finetune_api.base import NAME_MAX_LENGTH, NAME_PATTERN, cel
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.status import FineTuneJobStatus

_KEPT = (
    "type",
    "description",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
)
_EXTENSIONS = (
    "x-kubernetes-validations",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-int-or-string",
)
_DROPPED = ("title", "$defs", "propertyNames")


class CrdError(ValueError):
    """A type has no faithful structural schema; the message names the field."""


def structural(model: type[BaseModel], *, bounded: bool) -> dict[str, Any]:
    """The structural schema of a model. `bounded` refuses strings, lists and maps without an upper bound."""
    source = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(source, source.get("$defs", {}), model.__name__, bounded)


def _convert(node: Mapping[str, Any], defs: Mapping[str, Any], path: str, bounded: bool) -> dict[str, Any]:
    node = _resolved(node, defs, path)
    if node.get("x-kubernetes-int-or-string"):
        return {k: node[k] for k in (*_KEPT, *_EXTENSIONS) if k in node and k != "type"}
    if "const" in node:
        node = {**node, "enum": [node["const"]]}
        node.pop("const")
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key in _KEPT or key in _EXTENSIONS:
            out[key] = value
        elif key == "properties":
            out["properties"] = {
                name: _property(child, defs, f"{path}.{name}", bounded) for name, child in value.items()
            }
        elif key == "required":
            out["required"] = sorted(value)
        elif key == "items":
            out["items"] = _convert(value, defs, f"{path}[]", bounded)
        elif key == "additionalProperties":
            if isinstance(value, Mapping):
                out["additionalProperties"] = _convert(value, defs, f"{path}.*", bounded)
        elif key not in (*_DROPPED, "default"):
            raise CrdError(f"{path}: {key}={value!r} has no form in a structural schema")
    if isinstance(out.get("description"), str):
        out["description"] = " ".join(out["description"].split())
    _check(out, path, bounded)
    return out


def _resolved(node: Mapping[str, Any], defs: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Follows `$ref` and unwraps `X | None`; what stands beside them wins over what they bring."""
    merged = dict(node)
    while "$ref" in merged or "anyOf" in merged or "allOf" in merged:
        if "$ref" in merged:
            inner = defs[merged.pop("$ref").rsplit("/", 1)[-1]]
        elif merged.get("x-kubernetes-int-or-string"):
            merged.pop("anyOf")
            continue
        else:
            choices = merged.pop("anyOf", None) or merged.pop("allOf")
            inner_choices = [c for c in choices if c.get("type") != "null"]
            if len(inner_choices) != 1:
                raise CrdError(f"{path}: a union of {len(inner_choices)} types has no form in a structural schema")
            inner = inner_choices[0]
        merged = {**inner, **merged}
    return merged


def _property(node: Mapping[str, Any], defs: Mapping[str, Any], path: str, bounded: bool) -> dict[str, Any]:
    out = _convert(node, defs, path, bounded)
    default = node.get("default")
    if default is not None:
        # An empty object lets the API server fill in the defaults of the fields below.
        out["default"] = {} if out.get("type") == "object" else default
    return out


def _check(out: Mapping[str, Any], path: str, bounded: bool) -> None:
    kind = out.get("type")
    if kind is None:
        raise CrdError(f"{path}: no type; Any and bare unions have no form in a structural schema")
    if not bounded:
        return
    if kind == "string" and "maxLength" not in out and "enum" not in out:
        raise CrdError(f"{path}: a string without max_length; CEL cost needs a bound")
    if kind == "array" and "maxItems" not in out:
        raise CrdError(f"{path}: a list without max_length; CEL cost needs a bound")
    if kind == "object" and "additionalProperties" in out and "maxProperties" not in out:
        raise CrdError(f"{path}: a map without max_length; CEL cost needs a bound")


FROZEN = (
    ("model.uri", "spec.model.uri"),
    ("data", "spec.data"),
    ("method", "spec.method"),
    ("training", "spec.training"),
    ("checkpoint.uri", "spec.checkpoint.uri"),
    ("runId", "spec.runId"),
)
_OPTIONAL = {"spec.checkpoint.uri": "spec.checkpoint", "spec.runId": "spec"}


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


def finetunejob_crd() -> dict[str, Any]:
    """The whole CustomResourceDefinition of FineTuneJob."""
    root_rules = [
        cel(
            f"self.metadata.name.size() <= {NAME_MAX_LENGTH}",
            f"metadata.name must have at most {NAME_MAX_LENGTH} characters, so that the names of its Jobs and pods fit",
        ),
        cel(
            f"self.metadata.name.matches('{NAME_PATTERN}')",
            "metadata.name must start with a letter and hold only a-z, 0-9 and -",
        ),
        *(_frozen_rule(label, path) for label, path in FROZEN),
    ]
    schema = {
        "type": "object",
        "required": ["spec"],
        "description": "Fine-tunes a model, keeps the work through preemption, evaluates and publishes the result.",
        "x-kubernetes-validations": root_rules,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(FineTuneJobSpec, bounded=True),
            "status": structural(FineTuneJobStatus, bounded=False),
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "finetunejobs.finetune.dev"},
        "spec": {
            "group": "finetune.dev",
            "scope": "Namespaced",
            "names": {
                "kind": "FineTuneJob",
                "listKind": "FineTuneJobList",
                "plural": "finetunejobs",
                "singular": "finetunejob",
                "shortNames": ["ftj"],
                "categories": ["all", "finetune"],
            },
            "versions": [
                {
                    "name": "v1alpha1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        _column("Phase", "string", ".status.phase"),
                        _column("Progress", "string", ".status.progress.summary"),
                        _column("Loss", "string", ".status.progress.lossText"),
                        _column("ETA", "string", ".status.progress.eta"),
                        _column("Restarts", "integer", ".status.restarts"),
                        _column("GPUs", "integer", ".status.gpus"),
                        _column("Reason", "string", ".status.reason", wide=True),
                        _column("Checkpoint", "integer", ".status.checkpoint.step", wide=True),
                        _column("Output", "string", ".status.output.uri", wide=True),
                        _column("Age", "date", ".metadata.creationTimestamp"),
                    ],
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


if __name__ == "__main__":
    sys.stdout.write(to_yaml(finetunejob_crd()))
