"""From a pydantic type to a structural schema the API server accepts.

Pydantic speaks JSON Schema 2020-12; a structural schema is a small part of OpenAPI v3. What has a faithful form is
rewritten, anything else raises `CrdError` with the field's path: a constraint that vanished in silence would be worse
than no generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

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
