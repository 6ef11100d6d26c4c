"""Label selectors, as the API server reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def matches(selector: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    """Whether a selector in its wire form selects these labels. Unlike the API server's, an empty one selects nothing;
    an operator that does not exist holds for nothing."""
    exact = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or ()
    if not exact and not expressions:
        return False
    return all(labels.get(k) == v for k, v in exact.items()) and all(_holds(e, labels) for e in expressions)


def _holds(expression: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    key, values = str(expression.get("key")), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def in_words(selector: Mapping[str, Any]) -> str:
    """`app=bot, tier in (a, b), !retired`, the form kubectl takes."""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for entry in selector.get("matchExpressions") or ():
        key, values = str(entry.get("key")), ", ".join(entry.get("values") or ())
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }.get(str(entry.get("operator")), key)
        )
    return ", ".join(parts)
