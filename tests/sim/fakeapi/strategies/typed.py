"""The Go types of the built-in kinds, as the Python client's models know them.

A real API server refuses `value: 1` for a string, drops unknown fields with a warning, and under
fieldValidation=Strict refuses them. A fake that swallowed such mistakes would let them pass to a real cluster.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from kubernetes.client import models

from fakeapi import errors

from . import Obj

_SPECIAL = {"Event": "CoreV1Event"}
_CONTAINERS = re.compile(r"^([Ll]ist\[|[Dd]ict[\[(]str, )(.*)[\])]$")
_QUANTITIES = {"limits", "requests", "capacity", "allocatable", "overhead", "sizeLimit", "divisor", "hard", "used"}


class Model(NamedTuple):
    fields: dict[str, str]  # JSON name → type


@cache
def model(name: str) -> Model | None:
    cls = getattr(models, name, None)
    if cls is None:
        return None
    return Model({cls.attribute_map[attr]: kind for attr, kind in cls.openapi_types.items()})


def model_of(kind: str) -> Model | None:
    return model(_SPECIAL.get(kind, f"V1{kind}"))


def decode(obj: Obj, kind: str, *, strict: bool) -> Obj:
    """`obj` without nulls and unknown fields; wrong types and (if strict) unknown fields are answered with 400."""
    top = model_of(kind)
    if top is None:
        return obj
    unknown: list[str] = []
    out = _object(obj, top, kind, "", unknown)
    if unknown and strict:
        listed = ", ".join(f'unknown field "{path}"' for path in unknown)
        raise errors.bad_request(f"{kind} in version v1 cannot be handled as a {kind}: strict decoding error: {listed}")
    return out


def _object(value: Obj, known: Model, kind: str, at: str, unknown: list[str]) -> Obj:
    out = {}
    for key, item in value.items():
        here = f"{at}.{key}" if at else key
        if key not in known.fields:
            unknown.append(here)
        elif item is not None:
            decoded = _value(item, known.fields[key], kind, here, unknown)
            if decoded or not _CONTAINERS.match(known.fields[key]):
                out[key] = decoded  # empty lists and maps are not serialised
    return out


def _value(item: Any, expected: str, kind: str, at: str, unknown: list[str]) -> Any:
    found = _CONTAINERS.match(expected)
    if found:
        inner = found[2]
        if found[1].lower() == "list[":
            _check(isinstance(item, list), kind, at, item, "list")
            return [_value(x, inner, kind, f"{at}[{i}]", unknown) for i, x in enumerate(item) if x is not None]
        _check(isinstance(item, dict), kind, at, item, "map")
        quantity = at.rpartition(".")[2] in _QUANTITIES
        return {k: _value(x, "quantity" if quantity else inner, kind, f"{at}.{k}", unknown) for k, x in item.items()}
    if expected == "str" and at.rpartition(".")[2] in _QUANTITIES:
        expected = "quantity"
    if expected == "quantity":
        _check(isinstance(item, str | int | float) and not isinstance(item, bool), kind, at, item, "quantity")
        return str(item)
    if expected in ("str", "datetime", "bytes"):
        _check(isinstance(item, str), kind, at, item, "string")
    elif expected == "int":
        _check(isinstance(item, int) and not isinstance(item, bool), kind, at, item, "int32")
    elif expected == "bool":
        _check(isinstance(item, bool), kind, at, item, "bool")
    elif (inner_model := model(expected)) is not None:
        _check(isinstance(item, dict), kind, at, item, expected)
        return _object(item, inner_model, kind, at, unknown)
    return item


def _check(ok: bool, kind: str, at: str, item: Any, expected: str) -> None:
    if not ok:
        got = {str: "string", bool: "bool", int: "number", float: "number", dict: "object", list: "array"}
        raise errors.bad_request(
            f'{kind} in version "v1" cannot be handled as a {kind}: json: cannot unmarshal '
            f"{got.get(type(item), 'null')} into Go struct field .{at} of type {expected}"
        )
