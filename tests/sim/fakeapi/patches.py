"""JSON merge patch (RFC 7386), JSON patch (RFC 6902), and strategic merge for the lists that have merge keys."""

from __future__ import annotations

from typing import Any

from . import errors
from .jsontools import copy


def merge_patch(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy(patch)
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge_patch(out.get(key), value)
    return out


# Merge keys by the name of the list; `ports` depends on its items.
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "conditions": "type",
    "addresses": "type",
    "ownerReferences": "uid",
    "taints": "key",
    "hostAliases": "ip",
    "podIPs": "ip",
    "topologySpreadConstraints": "topologyKey",
    "schedulingGates": "name",
}
_PRIMITIVE_SETS = {"finalizers"}


def strategic_patch(target: Any, patch: Any, name: str = "") -> Any:
    """Lists with a merge key are merged item by item; `$patch: delete|replace` is understood, other directives
    are refused."""
    if isinstance(patch, list) and isinstance(target, list):
        return _strategic_list(target, patch, name)
    if not isinstance(patch, dict):
        return copy(patch)
    if patch.get("$patch") == "replace":
        return {k: copy(v) for k, v in patch.items() if k != "$patch"}
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$setElementOrder/") or key == "$patch":
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            plain = key.partition("/")[2]
            out[plain] = [item for item in out.get(plain, []) if item not in value]
            continue
        if key.startswith("$"):
            raise errors.bad_request(f"strategic merge directive {key!r} is not supported by the fake API server")
        if value is None:
            out.pop(key, None)
        else:
            out[key] = strategic_patch(out.get(key), value, key)
    return out


def _strategic_list(target: list[Any], patch: list[Any], name: str) -> list[Any]:
    if name in _PRIMITIVE_SETS:
        return [*target, *(item for item in patch if item not in target)]
    key = _MERGE_KEYS.get(name)
    if name == "ports":
        key = "containerPort" if any("containerPort" in p for p in [*patch, *target]) else "port"
    if key is None:
        return [copy(item) for item in patch]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [copy(item) for item in patch if item.get("$patch") != "replace"]
    out = list(target)
    for item in patch:
        at = next((i for i, old in enumerate(out) if old.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if at is not None:
                out.pop(at)
        elif at is None:
            out.append(copy(item))
        else:
            out[at] = strategic_patch(out[at], item)
    return _in_order(out, target, [item[key] for item in patch if "$patch" not in item], key)


def _in_order(merged: list[Any], target: list[Any], patched: list[Any], key: str) -> list[Any]:
    """Patched items in the order of the patch; the others where the server had them, as far as both are known."""
    server = [item[key] for item in target]
    by_key = {item[key]: item for item in merged}
    left = [k for k in server if k in by_key and k not in patched]
    right = [k for k in patched if k in by_key]
    out: list[Any] = []
    while left or right:
        if left and right:
            first = right[0] in server and server.index(left[0]) < server.index(right[0])
        else:
            first = bool(left)
        out.append(by_key[(left if first else right).pop(0)])
    return out


def json_patch(target: Any, operations: Any) -> Any:
    if not isinstance(operations, list):
        raise errors.bad_request("a JSON patch is a list of operations")
    out = copy(target)
    for operation in operations:
        out = _operate(out, operation)
    return out


def _operate(doc: Any, operation: dict[str, Any]) -> Any:
    op, path = operation.get("op"), _pointer(operation["path"])
    if op in ("move", "copy"):
        source = _pointer(operation["from"])
        value = copy(_lookup(doc, source))
        if op == "move":
            doc = _change(doc, source, "remove", None)
        return _change(doc, path, "add", value)
    if op == "test":
        if _lookup(doc, path) != operation.get("value"):
            raise errors.ApiError(422, "Invalid", f"the server rejected our request: testing path {operation['path']}")
        return doc
    if op not in ("add", "remove", "replace"):
        raise errors.bad_request(f"unknown JSON patch operation {op!r}")
    return _change(doc, path, op, copy(operation.get("value")))


def _pointer(text: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _missing(path: list[str]) -> errors.ApiError:
    return errors.ApiError(422, "Invalid", f"the server rejected our request: no such path /{'/'.join(path)}")


def _lookup(doc: Any, path: list[str]) -> Any:
    for part in path:
        try:
            doc = doc[int(part)] if isinstance(doc, list) else doc[part]
        except (KeyError, IndexError, ValueError, TypeError) as failure:
            raise _missing(path) from failure
    return doc


def _change(doc: Any, path: list[str], op: str, value: Any) -> Any:
    if not path:
        return value
    parent = _lookup(doc, path[:-1])
    last = path[-1]
    if isinstance(parent, list):
        at = len(parent) if last == "-" else int(last)
        if at > len(parent) or (op != "add" and at >= len(parent)):
            raise _missing(path)
        if op == "add":
            parent.insert(at, value)
        elif op == "replace":
            parent[at] = value
        else:
            parent.pop(at)
    elif isinstance(parent, dict):
        if op == "remove" and last not in parent:
            raise _missing(path)
        if op == "remove":
            del parent[last]
        else:
            parent[last] = value
    else:
        raise _missing(path)
    return doc
