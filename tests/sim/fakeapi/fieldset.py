"""Field sets: which leaves of an object a manager owns, and how two objects differ.

A set is a `frozenset` of paths; a path is a tuple of FieldsV1 path elements: `f:name` for a field, `k:{…}` for an
item of a keyed list, `v:…` for an item of a set. The algorithms follow structured-merge-diff, the library that
the real API server uses, because ownership is only honest if the corner cases are the same: a container is a
member when it was *added*, never when it was applied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .schemas import Atomic, ListMap, MapOf, SetOf, Type, child, resolve

Path = tuple[str, ...]
FieldSet = frozenset[Path]
EMPTY: FieldSet = frozenset()


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


def item_element(t: ListMap | SetOf, item: Any) -> str:
    if isinstance(t, SetOf):
        return "v:" + json.dumps(item, separators=(",", ":"))
    keys: dict[str, Any] = {}
    for name, default in t.keys:
        value = item.get(name, default) if isinstance(item, dict) else default
        if value is not None:
            keys[name] = value
    return "k:" + json.dumps(keys, sort_keys=True, separators=(",", ":"))


def element_type(t: Type) -> Type:
    return t.elem if isinstance(t, ListMap) else Atomic()


def index(t: ListMap | SetOf, items: list[Any]) -> dict[str, Any]:
    """Items by path element, in order; of duplicates the first one counts."""
    out: dict[str, Any] = {}
    for item in items:
        out.setdefault(item_element(t, item), item)
    return out


def field_set(value: Any, t: Type) -> FieldSet:
    """The fields that applying `value` claims."""
    out: set[Path] = set()
    _collect(value, t, (), out)
    return frozenset(out)


def _collect(value: Any, t: Type, path: Path, out: set[Path]) -> None:
    t = resolve(t, value)
    if isinstance(t, Atomic):
        out.add(path)
    elif isinstance(t, ListMap | SetOf):
        for element, item in index(t, value or []).items():
            _collect(item, element_type(t), (*path, element), out)
            out.add((*path, element))
    else:
        for key, item in (value or {}).items():
            kind, named = child(t, key)
            here = (*path, f"f:{key}")
            _collect(item, kind, here, out)
            if item is None or item == {} or not named:
                out.add(here)


@dataclass
class Comparison:
    added: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)
    modified: set[Path] = field(default_factory=set)

    def without(self, prefixes: Iterable[Path]) -> Comparison:
        def keep(paths: set[Path]) -> set[Path]:
            return {p for p in paths if not any(p[: len(x)] == x for x in prefixes)}

        return Comparison(keep(self.added), keep(self.removed), keep(self.modified))


def compare(old: Any, new: Any, t: Type) -> Comparison:
    out = Comparison()
    _compare(old, new, t, (), out)
    return out


def _compare(old: Any, new: Any, t: Type, path: Path, out: Comparison) -> None:
    t = resolve(t, old if new is MISSING or new is None else new)
    both = (() if x is MISSING or x is None else x for x in (old, new))
    leaf = isinstance(t, Atomic) or all(x in ((), {}, []) for x in both) or _mismatch(old, new)
    if leaf:
        if old is MISSING:
            out.added.add(path)
        elif new is MISSING:
            out.removed.add(path)
        elif old != new:
            out.modified.add(path)
        return
    if isinstance(t, ListMap | SetOf):
        left = index(t, [] if old is MISSING or old is None else old)
        right = index(t, [] if new is MISSING or new is None else new)
        for element in {**left, **right}:
            _compare(left.get(element, MISSING), right.get(element, MISSING), element_type(t), (*path, element), out)
    else:
        left = {} if old is MISSING or old is None else old
        right = {} if new is MISSING or new is None else new
        for key in {**left, **right}:
            if key in left and key in right and left[key] == right[key]:
                continue
            kind, _ = child(t, key)
            _compare(left.get(key, MISSING), right.get(key, MISSING), kind, (*path, f"f:{key}"), out)
    if old is MISSING:
        out.added.add(path)
    elif new is MISSING:
        out.removed.add(path)


def _mismatch(old: Any, new: Any) -> bool:
    if MISSING in (old, new) or None in (old, new):
        return False
    return isinstance(old, dict) != isinstance(new, dict) or isinstance(old, list) != isinstance(new, list)


def merge(live: Any, applied: Any, t: Type) -> Any:
    """`applied` laid over `live`; what applied does not mention stays."""
    if applied is MISSING:
        return live
    t = resolve(t, applied)
    if live is MISSING or live is None or isinstance(t, Atomic) or _mismatch(live, applied):
        return applied
    if applied is None:
        return None
    if isinstance(t, ListMap | SetOf):
        return _merge_lists(live, applied, t)
    out = dict(live)
    for key, item in applied.items():
        out[key] = merge(live.get(key, MISSING), item, child(t, key)[0])
    return out


def _merge_lists(live: list[Any], applied: list[Any], t: ListMap | SetOf) -> list[Any]:
    """Keeps the order of `applied`, with items known only to `live` near their old neighbours."""
    left, right = index(t, live), index(t, applied)
    shared: Iterator[str] = iter([e for e in right if e in left])
    next_shared = next(shared, None)
    merged: set[str] = set()
    out: list[Any] = []
    lefts, rights = list(left), list(right)
    i = j = 0

    def take(element: str) -> None:
        merged.add(element)
        out.append(merge(left.get(element, MISSING), right[element], element_type(t)))

    while i < len(lefts) or j < len(rights):
        if i < len(lefts) and j < len(rights):
            if lefts[i] == rights[j]:
                take(lefts[i])
                i, j = i + 1, j + 1
                next_shared = next(shared, None)
                continue
            if lefts[i] in right and next_shared is not None and next_shared != lefts[i]:
                i += 1
                continue
        if i < len(lefts):
            if lefts[i] not in right:
                out.append(left[lefts[i]])
                i += 1
                continue
            if lefts[i] in merged:
                i += 1
        if j < len(rights):
            take(rights[j])
            if next_shared == rights[j]:
                next_shared = next(shared, None)
            j += 1
    return out


def trie(paths: Iterable[Path]) -> dict[str, list[Any]]:
    """`{element: [is a member, children]}`."""
    root: dict[str, list[Any]] = {}
    for path in paths:
        level = root
        for position, element in enumerate(path):
            node = level.setdefault(element, [False, {}])
            if position == len(path) - 1:
                node[0] = True
            level = node[1]
    return root


def remove(value: Any, paths: FieldSet, t: Type) -> Any:
    return _remove(value, trie(paths), t)


def _remove(value: Any, drop: dict[str, list[Any]], t: Type) -> Any:
    t = resolve(t, value)
    if isinstance(t, Atomic):
        return value if not isinstance(value, dict | list) else None
    if isinstance(t, ListMap | SetOf):
        items = []
        for item in value:
            node = drop.get(item_element(t, item))
            if node is None:
                items.append(item)
            elif not node[0]:
                items.append(_remove(item, node[1], element_type(t)))
        return items or None
    out = {}
    for key, item in value.items():
        node = drop.get(f"f:{key}")
        if node is None:
            out[key] = item
        elif not node[0]:
            # What becomes empty stays as null: it was not removed itself, and whoever owns it keeps it.
            out[key] = _remove(item, node[1], child(t, key)[0])
    return out or None


def ensure_named(paths: Iterable[Path], t: Type) -> FieldSet:
    """Adds the struct fields on the way to each path (never map entries or list items)."""
    out: set[Path] = set()
    for path in paths:
        out.add(path)
        level: Type | None = t
        for depth, element in enumerate(path[:-1]):
            named = False
            if element.startswith("f:") and level is not None and not isinstance(level, Atomic | ListMap | SetOf):
                level, named = child(level, element[2:])
            elif element.startswith("k:") and isinstance(level, ListMap):
                level = level.elem
            else:
                level = None
            if named:
                out.add(path[: depth + 1])
    return frozenset(out)


def encode(paths: FieldSet) -> dict[str, Any]:
    """FieldsV1 as the API server writes it."""

    def level(nodes: dict[str, list[Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for element in sorted(nodes):
            member, children = nodes[element]
            inner = level(children)
            if member and inner:
                inner = {".": {}, **inner}
            out[element] = inner
        return out

    return level(trie(paths))


def decode(fields: dict[str, Any]) -> FieldSet:
    out: set[Path] = set()

    def level(node: dict[str, Any], path: Path) -> None:
        for element, inner in node.items():
            if element == ".":
                out.add(path)
                continue
            here = (*path, element)
            if not inner:
                out.add(here)
            else:
                level(inner, here)

    level(fields, ())
    return frozenset(out)


def dotted(path: Path) -> str:
    """`.spec.ports[port=80,protocol="TCP"].name`, as conflict messages show it."""
    out = ""
    for element in path:
        kind, rest = element[:2], element[2:]
        if kind == "f:":
            out += f".{rest}"
        elif kind == "k:":
            keys = json.loads(rest)
            out += "[" + ",".join(f"{k}={json.dumps(v)}" for k, v in keys.items()) + "]"
        else:
            out += f"[={rest}]"
    return out


__all__ = [
    "EMPTY",
    "MISSING",
    "Comparison",
    "FieldSet",
    "MapOf",
    "Path",
    "compare",
    "decode",
    "dotted",
    "encode",
    "ensure_named",
    "field_set",
    "merge",
    "remove",
]
