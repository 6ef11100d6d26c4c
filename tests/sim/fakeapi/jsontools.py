"""Small helpers on JSON values: copying, RFC 3339 times, digests."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

Json = Any
_NESTED = (dict, list)


def copy(value: Json) -> Json:
    """A deep copy for plain JSON, several times faster than `copy.deepcopy`."""
    kind = type(value)
    if kind is dict:
        return {k: copy(v) if type(v) in _NESTED else v for k, v in value.items()}
    if kind is list:
        return [copy(v) if type(v) in _NESTED else v for v in value]
    return value


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def digest(value: Json) -> str:
    raw = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(raw.encode()).hexdigest()[:16]


def dig(value: Json, *path: str, default: Json = None) -> Json:
    """`dig(pod, "spec", "nodeName")`: the value there, or the default where any step is missing."""
    for step in path:
        if not isinstance(value, dict) or step not in value:
            return default
        value = value[step]
    return value


def drop_nulls(value: Json) -> Json:
    """Typed decoding forgets nulls in objects."""
    if isinstance(value, dict):
        return {key: drop_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [drop_nulls(item) for item in value]
    return value
