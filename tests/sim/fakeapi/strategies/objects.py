"""ConfigMaps, Secrets, Leases, Events."""

from __future__ import annotations

import base64
import binascii
import re

from fakeapi import errors

from . import Cause, Obj, Strategy, immutable

_MICRO = re.compile(r"^(.*T\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:00)$")
_KEY = re.compile(r"^[-._a-zA-Z0-9]+$")


def _data_keys(obj: Obj) -> list[Cause]:
    return [
        Cause(f"{part}[{key}]", "FieldValueInvalid", f'Invalid value: "{key}": a valid config key is needed')
        for part in ("data", "binaryData")
        for key in obj.get(part) or {}
        if not _KEY.match(key) or len(key) > 253
    ]


def _frozen(new: Obj, old: Obj | None, *parts: str) -> list[Cause]:
    if old is None or not old.get("immutable"):
        return []
    causes = []
    if not new.get("immutable"):
        causes.append(
            Cause("immutable", "FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set")
        )
    causes += [
        Cause(part, "FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set")
        for part in parts
        if new.get(part) != old.get(part)
    ]
    return causes


def _drop_empty(obj: Obj, *parts: str) -> Obj:
    for part in parts:
        if part in obj and not obj[part]:
            del obj[part]
    return obj


class ConfigMaps(Strategy):
    def decode(self, obj: Obj) -> Obj:
        return _drop_empty(obj, "data", "binaryData")

    def validate(self, new: Obj, old: Obj | None) -> list[Cause]:
        return _data_keys(new) + _frozen(new, old, "data", "binaryData")


class Secrets(Strategy):
    def decode(self, obj: Obj) -> Obj:
        """`stringData` is write-only: it lands in `data`, encoded."""
        plain = obj.pop("stringData", None) or {}
        data = {**(obj.get("data") or {})}
        for key, value in data.items():
            try:
                base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError) as failure:
                raise errors.bad_request(
                    f"Secret in version v1 cannot be handled: data[{key}]: illegal base64"
                ) from failure
        data |= {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
        if data:
            obj["data"] = data
        obj.setdefault("type", "Opaque")
        return _drop_empty(obj, "data")

    def validate(self, new: Obj, old: Obj | None) -> list[Cause]:
        causes = _data_keys(new) + _frozen(new, old, "data")
        if old is not None and new["type"] != old["type"]:
            causes.append(immutable("type", new["type"]))
        return causes


class Leases(Strategy):
    def decode(self, obj: Obj) -> Obj:
        spec = obj.get("spec") or {}
        for name in ("acquireTime", "renewTime"):
            found = _MICRO.match(spec.get(name) or "")
            if found:
                fraction = (found[2] or ".")[1:7].ljust(6, "0")
                spec[name] = f"{found[1]}.{fraction}Z"
        return obj

    def validate(self, new: Obj, old: Obj | None) -> list[Cause]:
        spec = new.get("spec") or {}
        causes = []
        duration = spec.get("leaseDurationSeconds")
        if duration is not None and duration <= 0:
            causes.append(
                Cause(
                    "spec.leaseDurationSeconds",
                    "FieldValueInvalid",
                    f"Invalid value: {duration}: must be greater than 0",
                )
            )
        transitions = spec.get("leaseTransitions")
        if transitions is not None and transitions < 0:
            causes.append(
                Cause(
                    "spec.leaseTransitions",
                    "FieldValueInvalid",
                    f"Invalid value: {transitions}: must be greater than or equal to 0",
                )
            )
        return causes


class Events(Strategy):
    def validate(self, new: Obj, old: Obj | None) -> list[Cause]:
        about = new["involvedObject"].get("namespace", "")
        if about == new["metadata"]["namespace"] or (not about and new["metadata"]["namespace"] == "default"):
            return []
        return [
            Cause(
                "involvedObject.namespace",
                "FieldValueInvalid",
                f'Invalid value: "{about}": does not match event.namespace',
            )
        ]
