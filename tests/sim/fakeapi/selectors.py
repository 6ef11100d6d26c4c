"""Label and field selectors, in the query syntax of LIST and WATCH."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from . import errors
from .jsontools import dig

Match = Callable[[dict[str, Any]], bool]

_SET = re.compile(r"^\s*([^\s!=,()]+)\s+(in|notin)\s+\(([^)]*)\)\s*$")
_EQUAL = re.compile(r"^\s*([^\s!=,()]+)\s*(==|=|!=)\s*([^\s!=,()]*)\s*$")
_EXISTS = re.compile(r"^\s*(!?)\s*([^\s!=,()]+)\s*$")


def _split(text: str) -> list[str]:
    return [part for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def labels(text: str) -> Match:
    """`a=b,c!=d,e in (f,g),h,!i`"""
    tests = [_label_test(part) for part in _split(text)]

    def match(obj: dict[str, Any]) -> bool:
        have = obj["metadata"].get("labels") or {}
        return all(test(have) for test in tests)

    return match


def _label_test(part: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.match(part):
        key, how, raw = found.groups()
        values = {v.strip() for v in raw.split(",")}
        if how == "in":
            return lambda have: have.get(key) in values
        return lambda have: have.get(key) not in values
    if found := _EQUAL.match(part):
        key, sign, value = found.groups()
        if sign == "!=":
            return lambda have: have.get(key) != value
        return lambda have: have.get(key) == value
    if found := _EXISTS.match(part):
        negated, key = found.groups()
        return lambda have: (key in have) != bool(negated)
    raise errors.bad_request(f"unable to parse requirement: {part!r} is not a label selector")


_COMMON = ("metadata.name", "metadata.namespace")
_BY_KIND = {
    "Pod": ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.phase",
            "status.podIP"),
    "Secret": ("type",),
    "Node": ("spec.unschedulable",),
    "Namespace": ("status.phase",),
    "Job": ("status.successful",),
    "Event": ("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
              "reason", "type"),
}  # fmt: skip


def fields(text: str, kind: str) -> Match:
    """`metadata.name=x,spec.nodeName!=y`; a field that the real server cannot select by is refused."""
    tests: list[tuple[tuple[str, ...], bool, str]] = []
    for part in _split(text):
        found = _EQUAL.match(part)
        if not found:
            raise errors.bad_request(f"invalid selector: {part!r}")
        key, sign, value = found.groups()
        if key not in _COMMON and key not in _BY_KIND.get(kind, ()):
            raise errors.bad_request(f'field label not supported: "{key}"')
        tests.append((tuple(key.split(".")), sign != "!=", value))

    def match(obj: dict[str, Any]) -> bool:
        return all((str(dig(obj, *path, default="")) == value) == wanted for path, wanted, value in tests)

    return match


def both(params: Mapping[str, str], kind: str) -> Match | None:
    """The selector of a LIST or WATCH request, or None for everything."""
    tests: list[Match] = []
    if params.get("labelSelector"):
        tests.append(labels(params["labelSelector"]))
    if params.get("fieldSelector"):
        tests.append(fields(params["fieldSelector"], kind))
    if not tests:
        return None
    return lambda obj: all(test(obj) for test in tests)


def label_selector(selector: Mapping[str, Any] | None, have: Mapping[str, str]) -> bool:
    """A `LabelSelector` object (matchLabels, matchExpressions) against labels; None matches nothing."""
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if have.get(key) != value:
            return False
    for rule in selector.get("matchExpressions") or []:
        key, how, values = rule["key"], rule["operator"], rule.get("values") or []
        ok = {
            "In": have.get(key) in values,
            "NotIn": have.get(key) not in values,
            "Exists": key in have,
            "DoesNotExist": key not in have,
        }[how]
        if not ok:
            return False
    return True
