"""Field managers: who owns which field, on every write and on server-side apply.

This is the real server's algorithm (structured-merge-diff's updater below apimachinery's field manager), for one
API version per kind: an Update takes what it changed away from everybody; an Apply owns what it mentions, removes
what it mentioned last time and nobody else owns, and conflicts where it would change somebody else's field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from . import errors
from .fieldset import (
    EMPTY,
    Comparison,
    FieldSet,
    Path,
    compare,
    decode,
    dotted,
    encode,
    ensure_named,
    field_set,
    merge,
    remove,
)
from .jsontools import copy, drop_nulls, rfc3339
from .schemas import Type

_STRIPPED = frozenset(
    [("f:apiVersion",), ("f:kind",), ("f:metadata",)]
    + [
        ("f:metadata", f"f:{name}")
        for name in (
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        )
    ]
)
MAX_UPDATERS = 10


class Manager(NamedTuple):
    name: str
    operation: str  # Apply | Update
    api_version: str
    subresource: str = ""


@dataclass
class Managed:
    """The decoded `metadata.managedFields`."""

    sets: dict[Manager, FieldSet] = field(default_factory=dict)
    times: dict[Manager, str] = field(default_factory=dict)

    @classmethod
    def of(cls, obj: dict[str, Any] | None) -> Managed:
        out = cls()
        for entry in ((obj or {}).get("metadata") or {}).get("managedFields") or []:
            who = Manager(
                entry.get("manager", ""),
                entry["operation"],
                entry["apiVersion"],
                entry.get("subresource", ""),
            )
            out.sets[who] = decode(entry.get("fieldsV1", {}))
            if "time" in entry:
                out.times[who] = entry["time"]
        return out

    def entries(self) -> list[dict[str, Any]]:
        def order(who: Manager) -> tuple[Any, ...]:
            return (who.operation, self.times.get(who, ""), who.name, who.api_version, who.subresource)

        out = []
        for who in sorted(self.sets, key=order):
            entry: dict[str, Any] = {
                "manager": who.name,
                "operation": who.operation,
                "apiVersion": who.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": encode(self.sets[who]),
            }
            if who in self.times:
                entry["time"] = self.times[who]
            if who.subresource:
                entry["subresource"] = who.subresource
            out.append(entry)
        return out


def _without_managed(obj: dict[str, Any]) -> dict[str, Any]:
    return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "managedFields"}}


def _filtered(paths: FieldSet, reset: tuple[Path, ...]) -> FieldSet:
    if not reset:
        return paths
    return frozenset(p for p in paths if not any(p[: len(x)] == x for x in reset))


def _take(managed: Managed, change: Comparison, who: Manager | None, *, force: bool) -> None:
    """Everybody else loses what changed; without force, that is a conflict."""
    changed = change.modified | change.added
    clashes = {m: s & changed for m, s in managed.sets.items() if m != who and s & changed}
    if clashes and not force:
        raise errors.apply_conflict(
            [(_printed(m, managed), dotted(path)) for m in sorted(clashes) for path in sorted(clashes[m])]
        )
    for other in list(managed.sets):
        if other == who:
            continue
        left = managed.sets[other] - clashes.get(other, EMPTY) - change.removed
        if left:
            managed.sets[other] = left
        else:
            del managed.sets[other]


def _printed(who: Manager, managed: Managed) -> str:
    text = f'"{who.name}"'
    if who.subresource:
        text += f' with subresource "{who.subresource}"'
    if who.operation == "Update":
        text += f" using {who.api_version}"
        if who in managed.times:
            text += f" at {managed.times[who]}"
    return text


def update(
    live: dict[str, Any] | None,
    new: dict[str, Any],
    who: Manager,
    t: Type,
    now: float,
    reset: tuple[Path, ...] = (),
    empty: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`new` with its managedFields after an ordinary write by `who`; `empty` is what a creation starts from."""
    sent = new["metadata"].get("managedFields")
    if sent is not None and not who.subresource and (sent == [] or sent == [{}]):
        managed = Managed()
    elif sent and not who.subresource:
        managed = Managed.of(new)
    else:
        managed = Managed.of(live)
    bare = _without_managed(new)
    if live and not managed.sets:
        return bare  # an object that nobody tracks stays so until somebody applies
    before = _without_managed(live) if live else (empty or {})
    change = compare(before, bare, t).without(reset)
    _take(managed, change, None, force=True)
    mine = _filtered(frozenset(change.modified | change.added), reset) - _STRIPPED
    if mine:
        managed.sets[who] = managed.sets.get(who, EMPTY) | mine
        managed.times[who] = rfc3339(now)
    _cap(managed)
    return _with_entries(bare, managed)


def apply(
    live: dict[str, Any] | None,
    applied: dict[str, Any],
    who: Manager,
    t: Type,
    now: float,
    *,
    force: bool,
    reset: tuple[Path, ...] = (),
    empty: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The merged object with its managedFields after `who` applied `applied`."""
    managed = Managed.of(live)
    before = _without_managed(live) if live else {}
    if live and not managed.sets:
        # An object that nobody tracked: its fields belong to a placeholder, so that applying conflicts with them.
        placeholder = Manager("before-first-apply", "Update", who.api_version)
        all_of_it = compare(empty or {}, before, t).without(reset)
        found = frozenset(all_of_it.added | all_of_it.modified) - _STRIPPED
        if found:
            managed.sets[placeholder] = found
            managed.times[placeholder] = rfc3339(now)
    last = managed.sets.get(who, EMPTY)
    merged = merge(before, copy(applied), t)
    managed.sets[who] = _filtered(field_set(applied, t), reset)
    if last:
        merged = _prune(merged, managed, last, t)
    _take(managed, compare(before, merged, t).without(reset), who, force=force)
    merged = drop_nulls(merged)
    mine = managed.sets[who] - _STRIPPED
    if mine:
        managed.sets[who] = mine
    else:
        del managed.sets[who]
    if merged != before:
        managed.times[who] = rfc3339(now)
    managed.times = {m: at for m, at in managed.times.items() if m in managed.sets}
    return _with_entries(merged, managed)


def _prune(merged: dict[str, Any], managed: Managed, last: FieldSet, t: Type) -> dict[str, Any]:
    """Removes what was applied last time, unless it is applied now or owned by somebody else."""
    last_named = ensure_named(last, t)
    pruned = remove(merged, last_named, t) or {}
    owned: set[Path] = set()
    for paths in managed.sets.values():
        owned |= paths
    merged_set = ensure_named(field_set(merged, t), t)
    pruned_set = ensure_named(field_set(pruned, t), t)
    pruned = remove(merged, merged_set - (pruned_set | ensure_named(owned, t)), t) or {}
    pruned_set = ensure_named(field_set(pruned, t), t)
    result: dict[str, Any] = remove(merged, (merged_set - pruned_set) & last_named, t) or {}
    return result


def _cap(managed: Managed) -> None:
    """No more than ten updaters are remembered one by one; the oldest are merged."""
    updaters = [m for m in managed.sets if m.operation == "Update"]
    extra = len(updaters) - MAX_UPDATERS
    if extra <= 0:
        return
    bucket = Manager("ancient-changes", "Update", updaters[0].api_version)
    oldest = sorted(updaters, key=lambda m: managed.times.get(m, ""))[: extra + 1]
    merged = frozenset().union(*(managed.sets.pop(m) for m in oldest))
    managed.sets[bucket] = merged
    managed.times[bucket] = managed.times.get(oldest[-1], "")


def _with_entries(obj: dict[str, Any], managed: Managed) -> dict[str, Any]:
    entries = managed.entries()
    metadata = {**obj.get("metadata", {})}
    if entries:
        metadata["managedFields"] = entries
    return {**obj, "metadata": metadata}


def same_but_times(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """True if the objects differ in nothing but the times of their managedFields: such a write is no write."""
    if old == new:
        return True

    def timeless(obj: dict[str, Any]) -> dict[str, Any]:
        entries = obj["metadata"].get("managedFields") or []
        bare = sorted(
            ({k: v for k, v in e.items() if k != "time"} for e in entries),
            key=lambda e: (e["operation"], e["manager"], e.get("subresource", "")),
        )
        return {**_without_managed(obj), "__managed__": bare}

    return timeless(old) == timeless(new)
