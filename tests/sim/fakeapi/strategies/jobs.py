"""Jobs: defaults, the generated selector, and which parts of the spec are frozen."""

from __future__ import annotations

from fakeapi.jsontools import copy

from . import Cause, Context, Obj, Strategy, immutable, required
from .pods import default_pod_spec, validate_pod_spec

_TERMINAL = ("Complete", "Failed")
_FROZEN = (
    "selector",
    "completionMode",
    "podFailurePolicy",
    "backoffLimitPerIndex",
    "managedBy",
    "successPolicy",
    "manualSelector",
)


def finished(job: Obj) -> str | None:
    """`Complete`, `Failed` or None."""
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition["type"] in _TERMINAL and condition["status"] == "True":
            return str(condition["type"])
    return None


class Jobs(Strategy):
    def decode(self, obj: Obj) -> Obj:
        spec = obj.setdefault("spec", {})
        if "completions" not in spec and "parallelism" not in spec:
            spec["completions"] = 1
        spec.setdefault("parallelism", 1)
        spec.setdefault("backoffLimit", 2147483647 if "backoffLimitPerIndex" in spec else 6)
        template = spec.setdefault("template", {})
        labels = (template.get("metadata") or {}).get("labels")
        if labels and not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)
        spec.setdefault("completionMode", "NonIndexed")
        spec.setdefault("suspend", False)
        spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
        spec.setdefault("manualSelector", False)
        default_pod_spec(template.setdefault("spec", {}))
        return obj

    def prepare_create(self, obj: Obj, context: Context) -> Obj:
        spec, meta = obj["spec"], obj["metadata"]
        obj["status"] = {}
        if spec["manualSelector"]:
            return obj
        labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
        for name in ("job-name", "batch.kubernetes.io/job-name"):
            labels.setdefault(name, meta["name"])
        for name in ("controller-uid", "batch.kubernetes.io/controller-uid"):
            labels.setdefault(name, meta["uid"])
        selector = spec.setdefault("selector", {}).setdefault("matchLabels", {})
        selector.setdefault("batch.kubernetes.io/controller-uid", meta["uid"])
        # Defaults run again whenever the stored object is read: a Job without labels takes its template's.
        if not meta.get("labels"):
            context.stored_otherwise(meta["uid"])
            meta["labels"] = dict(labels)
        elif self._defaulted(meta["labels"], labels):
            meta["labels"] = dict(labels)
        return obj

    @staticmethod
    def _defaulted(mine: dict[str, str], template: dict[str, str]) -> bool:
        """Labels that decoding copied from the template are the template's map itself, generated names included."""
        generated = ("job-name", "controller-uid", "batch.kubernetes.io/job-name", "batch.kubernetes.io/controller-uid")
        return mine == {k: v for k, v in template.items() if k not in generated}

    def validate(self, new: Obj, old: Obj | None) -> list[Cause]:
        spec = new["spec"]
        template = spec["template"]["spec"]
        causes = validate_pod_spec(template, "spec.template.spec")
        if template["restartPolicy"] not in ("Never", "OnFailure"):
            causes.append(
                Cause(
                    "spec.template.spec.restartPolicy",
                    "FieldValueNotSupported",
                    f'Unsupported value: "{template["restartPolicy"]}": supported values: "OnFailure", "Never"',
                )
            )
        if spec["completionMode"] == "Indexed" and "completions" not in spec:
            causes.append(required("spec.completions", "when completion mode is Indexed"))
        if old is None:
            if new["metadata"].get("name") and len(new["metadata"]["name"]) > 63:
                causes.append(Cause("metadata.name", "FieldValueInvalid", "must be no more than 63 characters"))
            return causes
        before = old["spec"]
        causes += [immutable(f"spec.{name}") for name in _FROZEN if spec.get(name) != before.get(name)]
        if spec.get("completions") != before.get("completions") and not (
            spec["completionMode"] == "Indexed" and spec.get("completions") == spec.get("parallelism")
        ):
            causes.append(immutable("spec.completions", spec.get("completions")))
        if _template(spec, old) != _template(before, old):
            causes.append(immutable("spec.template"))
        return causes

    def validate_status(self, new: Obj, old: Obj) -> list[Cause]:
        was = finished(old)
        if was and finished(new) != was:
            return [
                Cause("status.conditions", "FieldValueInvalid", f"Invalid value: cannot disable terminal {was}=True")
            ]
        return []


def _template(spec: Obj, old: Obj) -> Obj:
    """The frozen part of a template: scheduling directives may change while a job is suspended and not started."""
    template: Obj = copy(spec["template"])
    suspended = old["spec"].get("suspend") is True
    conditions = (old.get("status") or {}).get("conditions") or []
    resting = any(c["type"] == "Suspended" and c["status"] == "True" for c in conditions)
    started = "startTime" in (old.get("status") or {})
    if suspended and (not started or resting) and not (old.get("status") or {}).get("active"):
        for name in ("nodeSelector", "tolerations", "affinity", "schedulingGates"):
            template["spec"].pop(name, None)
        for container in [*template["spec"].get("containers", []), *template["spec"].get("initContainers", [])]:
            container.pop("resources", None)
        for name in ("labels", "annotations"):
            template.get("metadata", {}).pop(name, None)
    return template
