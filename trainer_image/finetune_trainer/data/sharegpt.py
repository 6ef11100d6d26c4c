"""ShareGPT: `{"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}`.

The format comes from scraped conversations, and its sets are known for turns that were lost on the way. So the order
of the speakers is checked here, where a line can be named, and not left to the chat template.
"""

from __future__ import annotations

from typing import Any

from finetune_trainer.data.parts import BadRecord, kind, text
from finetune_trainer.data.records import Turn

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}


def sharegpt(document: dict[str, Any]) -> list[Turn]:
    """The turns, a top-level `system` first. Raises BadRecord."""
    value = document.get("conversations")
    if "conversations" not in document:
        raise BadRecord("conversations is missing; expected a list of {from, value}")
    if not isinstance(value, list):
        raise BadRecord(f"conversations is {kind(value)}; expected a list of {{from, value}}")
    if not value:
        raise BadRecord("conversations is an empty list; expected at least one {from, value}")
    found = [_turn(item, f"conversations[{index}]") for index, item in enumerate(value)]
    _check_order(found)
    if document.get("system"):
        if found[0].role == "system":
            raise BadRecord("system stands beside conversations and conversations[0] is a system turn, too; keep one")
        found.insert(0, Turn("system", text(document, "system"), trained=False))
    return found


def _turn(item: Any, place: str) -> Turn:
    if not isinstance(item, dict):
        raise BadRecord(f"{place} is {kind(item)}; expected an object with from and value")
    who, what = ("role", "content") if "role" in item and "from" not in item else ("from", "value")
    speaker = item.get(who)
    if who not in item:
        raise BadRecord(f"{place}.from is missing; expected human, gpt, system or tool")
    role = _ROLES.get(speaker.lower()) if isinstance(speaker, str) else None
    if role is None:
        shown = repr(speaker) if isinstance(speaker, str) else kind(speaker)
        raise BadRecord(f"{place}.{who} is {shown:.60}; expected human, gpt, system or tool")
    return Turn(role, text(item, what, f"{place}.{what}"), trained=False)


def _check_order(found: list[Turn]) -> None:
    for index, turn in enumerate(found):
        if turn.role == "system" and index:
            raise BadRecord(f"conversations[{index}] is a system turn; expected it first, or as a user's turn")
        if index and turn.role == found[index - 1].role and turn.role in ("user", "assistant"):
            raise BadRecord(
                f"conversations[{index}] is of the same speaker ({turn.role}) as the turn before it; "
                "expected human and gpt by turns: join the two, or add the turn that is missing"
            )
