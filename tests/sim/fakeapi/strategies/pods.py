"""Pods and pod templates: defaults, and what a running pod's spec may still change."""

from __future__ import annotations

from fakeapi.jsontools import copy

from . import Cause, Context, Obj, Strategy, required


def default_container(container: Obj) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("resources", {})
    image = container.get("image", "")
    if "imagePullPolicy" not in container:
        tag = image.rpartition("/")[2]
        latest = "@" not in image and (":" not in tag or tag.endswith(":latest"))
        container["imagePullPolicy"] = "Always" if latest else "IfNotPresent"
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
    for variable in container.get("env") or []:
        source = (variable.get("valueFrom") or {}).get("fieldRef")
        if source:
            source.setdefault("apiVersion", "v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if not probe:
            continue
        for key, value in (
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        ):
            if not probe.get(key):
                probe[key] = value
        if "httpGet" in probe:
            probe["httpGet"].setdefault("scheme", "HTTP")
            probe["httpGet"].setdefault("path", "/")


def default_pod_spec(spec: Obj) -> None:
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("schedulerName", "default-scheduler")
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for group in ("containers", "initContainers"):
        for container in spec.get(group) or []:
            default_container(container)
    for volume in spec.get("volumes") or []:
        for kind in ("configMap", "secret", "downwardAPI", "projected"):
            if kind in volume:
                volume[kind].setdefault("defaultMode", 420)
        for source in (volume.get("projected") or {}).get("sources") or []:
            if "serviceAccountToken" in source:
                source["serviceAccountToken"].setdefault("expirationSeconds", 3600)


def validate_pod_spec(spec: Obj, at: str) -> list[Cause]:
    causes = []
    if not spec.get("containers"):
        causes.append(required(f"{at}.containers"))
    volumes = {v.get("name") for v in spec.get("volumes") or []}
    for group in ("initContainers", "containers"):
        for i, container in enumerate(spec.get(group) or []):
            here = f"{at}.{group}[{i}]"
            if not container.get("name"):
                causes.append(required(f"{here}.name"))
            if not container.get("image"):
                causes.append(required(f"{here}.image"))
            for j, mount in enumerate(container.get("volumeMounts") or []):
                if mount.get("name") not in volumes:
                    name = mount.get("name")
                    causes.append(Cause(f"{here}.volumeMounts[{j}].name", "FieldValueNotFound", f'Not found: "{name}"'))
    return causes


def _frozen_part(spec: Obj) -> Obj:
    """A pod spec without what may be changed in place."""
    out = copy(spec)
    for name in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        out.pop(name, None)
    for group in ("containers", "initContainers"):
        for container in out.get(group) or []:
            container.pop("image", None)
    return dict(out)


class Pods(Strategy):
    def decode(self, obj: Obj) -> Obj:
        spec = obj.setdefault("spec", {})
        default_pod_spec(spec)
        spec.setdefault("enableServiceLinks", True)
        for group in ("containers", "initContainers"):
            for container in spec.get(group) or []:
                limits = container["resources"].get("limits")
                if limits:
                    requests = container["resources"].setdefault("requests", {})
                    for name, value in limits.items():
                        requests.setdefault(name, value)
        status = obj.get("status") or {}
        for condition in status.get("conditions") or []:
            condition.setdefault("lastProbeTime", None)
        if status.get("podIP") and not status.get("podIPs"):
            status["podIPs"] = [{"ip": status["podIP"]}]
        return obj

    def prepare_create(self, obj: Obj, context: Context) -> Obj:
        spec = obj["spec"]
        obj["status"] = {"phase": "Pending", "qosClass": "BestEffort" if not _asks(spec) else "Burstable"}
        if not spec.get("serviceAccountName"):
            spec["serviceAccountName"] = "default"
        spec["serviceAccount"] = spec["serviceAccountName"]
        spec.setdefault("priority", 0)
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
        _tolerate_defaults(spec)
        return obj

    def prepare_update(self, new: Obj, old: Obj) -> Obj:
        _tolerate_defaults(new["spec"])
        return new

    def validate(self, new: Obj, old: Obj | None) -> list[Cause]:
        if old is None:
            return validate_pod_spec(new["spec"], "spec")
        if _frozen_part(new["spec"]) != _frozen_part(old["spec"]):
            return [Cause("spec", "FieldValueForbidden", "Forbidden: pod updates may not change fields other than …")]
        return _only_so(new["spec"], old["spec"])


def _tolerate_defaults(spec: Obj) -> None:
    """What an admission plugin does on every write: pods stay 300 s on nodes that fall silent."""
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(t.get("key") in (key, None) and t.get("effect") in ("NoExecute", None) for t in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})


def _only_so(new: Obj, old: Obj) -> list[Cause]:
    """What may change, but only in one direction."""
    causes = []
    if any(t not in (new.get("tolerations") or []) for t in old.get("tolerations") or []):
        message = "Forbidden: existing toleration can not be modified except its tolerationSeconds"
        causes.append(Cause("spec.tolerations", "FieldValueForbidden", message))
    was, now = old.get("activeDeadlineSeconds"), new.get("activeDeadlineSeconds")
    if was is not None and (now is None or now > was):
        message = f"Invalid value: {now}: must be less than or equal to previous value"
        causes.append(Cause("spec.activeDeadlineSeconds", "FieldValueInvalid", message))
    return causes


def _asks(spec: Obj) -> bool:
    return any(c.get("resources") for c in spec.get("containers") or [])
