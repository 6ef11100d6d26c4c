"""Services: defaults, allocated cluster IPs, and what may not change."""

from __future__ import annotations

from . import Cause, Context, Obj, Strategy, immutable, required


class Services(Strategy):
    def decode(self, obj: Obj) -> Obj:
        spec = obj.setdefault("spec", {})
        spec.setdefault("sessionAffinity", "None")
        spec.setdefault("type", "ClusterIP")
        for port in spec.get("ports") or []:
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port.get("port"))
        if spec["type"] != "ExternalName":
            spec.setdefault("internalTrafficPolicy", "Cluster")
        if not spec.get("selector"):
            spec.pop("selector", None)
        if not spec.get("ports"):
            spec.pop("ports", None)
        obj.setdefault("status", {"loadBalancer": {}})
        return obj

    def prepare_create(self, obj: Obj, context: Context) -> Obj:
        obj["status"] = {"loadBalancer": {}}
        spec = obj["spec"]
        if spec["type"] == "ExternalName":
            return obj
        if not spec.get("clusterIP"):
            spec["clusterIP"] = context.allocate_ip()
        spec["clusterIPs"] = [spec["clusterIP"]]
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        if spec["clusterIP"] == "None" and not spec.get("selector"):
            spec["ipFamilies"], spec["ipFamilyPolicy"] = ["IPv4", "IPv6"], "RequireDualStack"
        return obj

    def prepare_update(self, new: Obj, old: Obj) -> Obj:
        """A PUT without the allocated values keeps them."""
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if name in old["spec"] and not new["spec"].get(name):
                new["spec"][name] = old["spec"][name]
        return new

    def validate(self, new: Obj, old: Obj | None) -> list[Cause]:
        spec = new["spec"]
        causes = []
        if not spec.get("ports") and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
            causes.append(required("spec.ports"))
        if spec.get("selector") and spec.get("ipFamilyPolicy") == "RequireDualStack":
            message = 'Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services'
            causes.append(Cause("spec.ipFamilyPolicy", "FieldValueInvalid", message))
        ports = spec.get("ports") or []
        seen: set[tuple[object, object]] = set()
        names: set[str] = set()
        for i, port in enumerate(ports):
            if not 1 <= port.get("port", 0) <= 65535:
                causes.append(
                    Cause(
                        f"spec.ports[{i}].port",
                        "FieldValueInvalid",
                        f"Invalid value: {port.get('port')}: must be between 1 and 65535, inclusive",
                    )
                )
            if len(ports) > 1 and not port.get("name"):
                causes.append(required(f"spec.ports[{i}].name"))
            if port.get("name") and port["name"] in names:
                causes.append(
                    Cause(f"spec.ports[{i}].name", "FieldValueDuplicate", f'Duplicate value: "{port["name"]}"')
                )
            names.add(port.get("name", ""))
            key = (port.get("port"), port["protocol"])
            if key in seen:
                causes.append(Cause(f"spec.ports[{i}]", "FieldValueDuplicate", f"Duplicate value: {key}"))
            seen.add(key)
        if old is not None and spec["type"] != "ExternalName" and old["spec"].get("clusterIP"):
            for name in ("clusterIP", "clusterIPs"):
                if spec.get(name) != old["spec"].get(name):
                    causes.append(immutable(f"spec.{name}", spec.get(name)))
        return causes
