"""Deployments and ReplicaSets: defaults, the selector that may never change, and templates that must match it."""

from __future__ import annotations

from fakeapi import selectors

from . import Cause, Obj, Strategy, immutable, required
from .pods import default_pod_spec, validate_pod_spec

_QUARTER = "25%"


def _validate(new: Obj, old: Obj | None) -> list[Cause]:
    spec = new["spec"]
    causes: list[Cause] = []
    if spec.get("replicas", 0) < 0:
        message = f"Invalid value: {spec['replicas']}: must be greater than or equal to 0"
        causes.append(Cause("spec.replicas", "FieldValueInvalid", message))
    selector = spec.get("selector")
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if not selector:
        causes.append(required("spec.selector"))
    elif not selectors.label_selector(selector, labels):
        message = "Invalid value: `selector` does not match template `labels`"
        causes.append(Cause("spec.template.metadata.labels", "FieldValueInvalid", message))
    template = spec["template"]["spec"]
    causes += validate_pod_spec(template, "spec.template.spec")
    if template["restartPolicy"] != "Always":
        message = f'Unsupported value: "{template["restartPolicy"]}": supported values: "Always"'
        causes.append(Cause("spec.template.spec.restartPolicy", "FieldValueNotSupported", message))
    if template.get("activeDeadlineSeconds") is not None:
        message = "Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported"
        causes.append(Cause("spec.template.spec.activeDeadlineSeconds", "FieldValueForbidden", message))
    if old is not None and old["spec"].get("selector") != selector:
        causes.append(immutable("spec.selector"))
    return causes


class Deployments(Strategy):
    def decode(self, obj: Obj) -> Obj:
        spec = obj.setdefault("spec", {})
        spec.setdefault("replicas", 1)
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("progressDeadlineSeconds", 600)
        strategy = spec.setdefault("strategy", {})
        strategy.setdefault("type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", _QUARTER)
            rolling.setdefault("maxSurge", _QUARTER)
        default_pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))
        return obj

    def prepare_create(self, obj: Obj, context: object) -> Obj:
        obj["status"] = {}
        return obj

    def validate(self, new: Obj, old: Obj | None) -> list[Cause]:
        return _validate(new, old)


class ReplicaSets(Strategy):
    def decode(self, obj: Obj) -> Obj:
        spec = obj.setdefault("spec", {})
        spec.setdefault("replicas", 1)
        template = spec.setdefault("template", {})
        labels = (template.get("metadata") or {}).get("labels")
        if labels and not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)
        default_pod_spec(template.setdefault("spec", {}))
        return obj

    def prepare_create(self, obj: Obj, context: object) -> Obj:
        obj["status"] = {"replicas": 0}
        return obj

    def validate(self, new: Obj, old: Obj | None) -> list[Cause]:
        return _validate(new, old)
