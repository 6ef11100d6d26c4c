"""From a field that does not exist to the one that was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from finetune_cli.manifests import Where, dotted
from finetune_cli.rules import below


def field(root: dict[str, Any], where: Where) -> str | None:
    """`root` is the schema of the whole object."""
    name = str(where[-1])
    siblings = list(below(root, where[:-1]).get("properties", {}))
    close = _close(name, siblings)
    if close is not None:
        return f"did you mean {close}?"
    elsewhere = [found for found in _fields(below(root, ("spec",)), ("spec",)) if found[-1] == name]
    if elsewhere:
        return f"{name} belongs to {dotted(elsewhere[0][:-1])}"
    return f"the fields of {dotted(where[:-1]) or 'the object'} are {', '.join(siblings)}" if siblings else None


def value(text: str, choices: list[str]) -> str | None:
    close = _close(text, choices)
    return None if close is None else f"did you mean {close}?"


def _close(text: str, choices: list[str]) -> str | None:
    plain = {choice.lower().replace("_", ""): choice for choice in choices}
    found = difflib.get_close_matches(text.lower().replace("_", "").replace("-", ""), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def _fields(node: dict[str, Any], where: Where) -> Iterator[Where]:
    for name, child in node.get("properties", {}).items():
        yield (*where, name)
        yield from _fields(child, (*where, name))
