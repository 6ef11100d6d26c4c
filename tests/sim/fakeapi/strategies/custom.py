"""Custom resources: pruning, defaults and validation by the structural schema of the CRD.

CEL rules are not interpreted: the real API server checks those in `tests/apiserver`. A test that needs one here
passes a `validate` function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jsonschema

from fakeapi.jsontools import copy, drop_nulls

from . import Cause, Obj, Strategy

Hook = Callable[[Obj, Obj | None], list[Cause]]


class Custom(Strategy):
    def __init__(
        self,
        schema: Mapping[str, Any] | None = None,
        *,
        validate: Hook | None = None,
        default: Callable[[Obj], Obj] | None = None,
    ) -> None:
        self._schema = dict(schema or {})
        self._hook, self._default = validate, default
        body = {k: v for k, v in self._schema.items() if k != "x-kubernetes-validations"}
        self._validator = jsonschema.Draft4Validator(_plain(body)) if self._schema else None
        status = _plain(body).get("properties", {}).get("status")
        self._status_validator = jsonschema.Draft4Validator(status) if status else None

    def decode(self, obj: Obj) -> Obj:
        kept: Obj = {k: obj.pop(k) for k in ("apiVersion", "kind", "metadata") if k in obj}
        if self._schema:
            obj = _prune(drop_nulls(obj), self._schema)
            _fill(obj, self._schema)
        if self._default is not None:
            obj = self._default(obj)
        return {**kept, **obj}

    def unknown(self, obj: Obj) -> list[str]:
        """Fields that the schema does not know: dropped, or refused under fieldValidation=Strict."""
        if not self._schema:
            return []
        out: list[str] = []
        body = {k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata")}
        _unknown(body, self._schema, "", out)
        return out

    def mistyped(self, obj: Obj) -> list[str]:
        if self._validator is None:
            return []
        body = {k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata")}
        return [e.message for e in self._validator.iter_errors(body) if e.validator == "type"]

    def validate(self, new: Obj, old: Obj | None) -> list[Cause]:
        causes = []
        if self._validator is not None:
            body = {k: v for k, v in new.items() if k not in ("apiVersion", "kind", "metadata")}
            for error in self._validator.iter_errors(body):
                path = ".".join(str(part) for part in error.absolute_path)
                causes.append(Cause(path, _reason(error.validator), error.message))
        if not causes and self._hook is not None:
            causes = self._hook(new, old)
        return causes

    def validate_status(self, new: Obj, old: Obj) -> list[Cause]:
        """The rest of the object was validated when it was written."""
        if self._status_validator is None or "status" not in new:
            return []
        return [
            Cause(".".join(["status", *map(str, e.absolute_path)]), _reason(e.validator), e.message)
            for e in self._status_validator.iter_errors(new["status"])
        ]


def _reason(validator: object) -> str:
    kinds = {"required": "FieldValueRequired", "enum": "FieldValueNotSupported", "type": "FieldValueTypeInvalid"}
    return kinds.get(str(validator), "FieldValueInvalid")


def _plain(schema: Any) -> Any:
    """OpenAPI's extras that JSON schema does not know."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    out = {k: _plain(v) for k, v in schema.items() if not k.startswith("x-kubernetes") and k != "nullable"}
    if schema.get("x-kubernetes-int-or-string"):
        out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("nullable") and "type" in out:
        out["type"] = [out["type"], "null"]
    out.pop("format", None)
    return out


def _open(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("x-kubernetes-preserve-unknown-fields")) or "properties" not in schema


def _prune(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        known = schema.get("properties", {})
        extra = schema.get("additionalProperties")
        out = {}
        for key, item in value.items():
            if key in known:
                out[key] = _prune(item, known[key])
            elif isinstance(extra, Mapping):
                out[key] = _prune(item, extra)
            elif _open(schema):
                out[key] = item
        return out
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [_prune(item, schema["items"]) for item in value]
    return value


def _unknown(value: Any, schema: Mapping[str, Any], at: str, out: list[str]) -> None:
    if isinstance(value, dict):
        known = schema.get("properties", {})
        extra = schema.get("additionalProperties")
        for key, item in value.items():
            here = f"{at}.{key}" if at else key
            if key in known:
                _unknown(item, known[key], here, out)
            elif isinstance(extra, Mapping):
                _unknown(item, extra, here, out)
            elif not _open(schema):
                out.append(here)
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for i, item in enumerate(value):
            _unknown(item, schema["items"], f"{at}[{i}]", out)


def _fill(value: Any, schema: Mapping[str, Any]) -> None:
    if isinstance(value, dict):
        for key, inner in schema.get("properties", {}).items():
            if key not in value and "default" in inner:
                value[key] = copy(inner["default"])
            if key in value:
                _fill(value[key], inner)
        extra = schema.get("additionalProperties")
        if isinstance(extra, Mapping):
            for key, item in value.items():
                if key not in schema.get("properties", {}):
                    _fill(item, extra)
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for item in value:
            _fill(item, schema["items"])
