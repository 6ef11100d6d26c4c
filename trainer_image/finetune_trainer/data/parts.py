"""The parts that records of every format are made of: turns and texts, or the reason why they are none."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

from finetune_trainer.data.records import ROLES, Turn

REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
"""What they call it: DeepSeek and Qwen; OpenRouter; gpt-oss."""


class BadRecord(ValueError):
    """A record that cannot be used; the text is the reason in words."""


def turns(document: dict[str, Any], key: str) -> list[Turn]:
    value = document.get(key)
    if key not in document:
        raise BadRecord(f"{key} is missing; expected a list of {{role, content}}")
    if not isinstance(value, list):
        raise BadRecord(f"{key} is {kind(value)}; expected a list of {{role, content}}")
    if not value:
        raise BadRecord(f"{key} is an empty list; expected at least one {{role, content}}")
    return [turn(item, f"{key}[{index}]") for index, item in enumerate(value)]


def turn(item: Any, place: str) -> Turn:
    if not isinstance(item, dict):
        raise BadRecord(f"{place} is {kind(item)}; expected an object with role and content")
    role = item.get("role")
    if "role" not in item:
        raise BadRecord(f"{place}.role is missing; expected one of {', '.join(ROLES)}")
    if role not in ROLES:
        shown = repr(role) if isinstance(role, str) else kind(role)
        raise BadRecord(f"{place}.role is {shown:.60}; expected one of {', '.join(ROLES)}")
    if item.get("tool_calls"):
        raise BadRecord(f"{place}.tool_calls: tool calls are not supported; write the call as text in content")
    content = text(item, "content", f"{place}.content")
    return Turn(str(role), _with_reasoning(item, content, role, place), trained=False)


def _with_reasoning(item: dict[str, Any], content: str, role: str, place: str) -> str:
    """Reasoning in a key of its own, in front of the answer as chat templates read it there."""
    found = [key for key in REASONING_KEYS if item.get(key) not in (None, "")]
    if not found:
        return content
    key = found[0]
    if len(found) > 1:
        raise BadRecord(f"{place} has {key} and {found[1]}; keep one")
    if role != "assistant":
        raise BadRecord(f"{place}.{key} stands beside a turn of the {role}; only the assistant reasons")
    if "<think>" in content:
        raise BadRecord(f"{place}.{key} stands beside <think> in content; keep one")
    return f"<think>\n{text(item, key, f'{place}.{key}').strip()}\n</think>\n\n{content}"


def text(document: dict[str, Any], key: str, place: str | None = None) -> str:
    """A string that holds more than white space."""
    name = place or key
    value = document.get(key)
    if key not in document:
        raise BadRecord(f"{name} is missing; expected a non-empty string")
    if not isinstance(value, str):
        raise BadRecord(f"{name} is {kind(value)}; expected a non-empty string")
    if not value.strip():
        raise BadRecord(f"{name} is empty; expected a non-empty string")
    return value


def kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, float) and math.isnan(value):
        return "NaN, which is what an empty cell became when the file was written"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, bytes):
        return "binary data"
    if isinstance(value, date):
        return "a date"
    return "a list" if isinstance(value, list) else "an object"
