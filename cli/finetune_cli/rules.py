"""What only the API server knows of a CRD: defaults, the form of quantities, and the CEL rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from finetune_api.crdgen import finetunejob_crd, modeldeployment_crd
from finetune_cli.cel import CelError, compile_rule
from finetune_cli.manifests import Where

_CRDS: dict[str, Callable[[], dict[str, Any]]] = {
    "FineTuneJob": finetunejob_crd,
    "ModelDeployment": modeldeployment_crd,
}
KINDS = tuple(_CRDS)
TRANSITION = "oldSelf"
"""Rules about an edit; there is no older object here."""
Found = tuple[Where, str]


@cache
def schema(kind: str) -> dict[str, Any]:
    version = _CRDS[kind]()["spec"]["versions"][0]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def below(node: dict[str, Any], where: Where) -> dict[str, Any]:
    """The schema of a field; empty when there is no such field."""
    for part in where:
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
    return node


def defaulted(node: dict[str, Any], value: Any) -> Any:
    """The value with the defaults that the API server writes into it before it asks its rules."""
    if isinstance(value, dict):
        properties = node.get("properties", {})
        filled = dict(value)
        for name, child in properties.items():
            if name not in filled and "default" in child:
                filled[name] = child["default"]
        extra = node.get("additionalProperties", {})
        return {name: defaulted(properties.get(name, extra), item) for name, item in filled.items()}
    if isinstance(value, list):
        return [defaulted(node.get("items", {}), item) for item in value]
    return value


def broken(node: dict[str, Any], value: Any, where: Where = ()) -> Iterator[Found]:
    """Rules and quantities that do not hold. The value has its defaults and no structural mistakes."""
    if node.get("x-kubernetes-int-or-string") and not re.search(node.get("pattern", ""), str(value)):
        yield where, f"{value!r} is not a quantity; write for example 500m, 4 or 16Gi"
    for rule in node.get("x-kubernetes-validations", ()):
        if TRANSITION in rule["rule"]:
            continue
        if not _holds(rule["rule"], value):
            yield (*where, *_field(rule.get("fieldPath", ""))), rule["message"]
    if isinstance(value, dict):
        extra = node.get("additionalProperties", {})
        for name, item in value.items():
            yield from broken(node.get("properties", {}).get(name, extra), item, (*where, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from broken(node.get("items", {}), item, (*where, index))


def _holds(rule: str, value: Any) -> bool:
    program = compile_rule(rule)
    try:
        return bool(program({"self": value}))
    except (CelError, TypeError):
        # As for the API server: a rule that cannot be answered does not hold.
        return False


def _field(path: str) -> Where:
    return tuple(part for part in path.split(".") if part)
