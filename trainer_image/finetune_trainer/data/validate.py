"""From a parsed JSON document to a record, or to the reason why it is none.

A reason names the place inside the record, what was found and what was expected, so that the user can fix the line
without reading our code.
"""

from __future__ import annotations

from typing import Any

from finetune_api.data import DataFormat
from finetune_trainer.data.records import ROLES, Conversation, Record, TextPair, Turn, alpaca_prompt

KNOWN = (
    "Messages {messages: [{role, content}]}, Alpaca {instruction, input, output} "
    "and PromptCompletion {prompt, completion}"
)
_OTHER_FORMATS = {
    "conversations": "this looks like ShareGPT: rename conversations/from/value to messages/role/content "
    "and human/gpt to user/assistant",
    "chosen": "this looks like preference data (chosen/rejected), which SFT cannot train on",
    "text": "this looks like raw text, which SFT cannot train on",
}


class BadRecord(ValueError):
    """A record that cannot be used; the text is the reason in words."""


def detect(document: dict[str, Any]) -> DataFormat:
    """The format by the keys that are there. Raises BadRecord when no known format fits."""
    if "messages" in document:
        return DataFormat.MESSAGES
    if "instruction" in document:
        return DataFormat.ALPACA
    if "prompt" in document or "completion" in document:
        return DataFormat.PROMPT_COMPLETION
    for key, words in _OTHER_FORMATS.items():
        if key in document:
            raise BadRecord(words)
    keys = ", ".join(sorted(map(repr, document))[:8]) or "none"
    raise BadRecord(f"no known format has the keys {keys:.200}; expected {KNOWN}")


def validate(document: Any, data_format: DataFormat) -> Record:
    """The record. `data_format` must be resolved (not Auto). Raises BadRecord."""
    if data_format is DataFormat.MESSAGES:
        turns = _turns(document, "messages")
        record = Conversation(tuple(Turn(t.role, t.content, t.role == "assistant") for t in turns))
        if not any(t.trained for t in record.turns):
            raise BadRecord("messages has no turn of the role 'assistant'; there would be nothing to learn")
        return record
    if data_format is DataFormat.ALPACA:
        instruction = _text(document, "instruction")
        context = document.get("input")
        if context is not None and not isinstance(context, str):
            raise BadRecord(f"input is {_kind(context)}; expected a string, or leave it out")
        return TextPair(alpaca_prompt(instruction, (context or "").strip()), _text(document, "output"))
    if isinstance(document.get("prompt"), list) or isinstance(document.get("completion"), list):
        return _conversational_pair(document)
    return TextPair(_text(document, "prompt"), _text(document, "completion"))


def _conversational_pair(document: dict[str, Any]) -> Conversation:
    for key in ("prompt", "completion"):
        if not isinstance(document.get(key), list):
            raise BadRecord(
                f"{key} is {_kind(document.get(key))} while the other is a list of messages; "
                "expected both as strings or both as lists of messages"
            )
    prompt, completion = _turns(document, "prompt"), _turns(document, "completion")
    if not any(t.role == "assistant" for t in completion):
        raise BadRecord("completion has no turn of the role 'assistant'; there would be nothing to learn")
    return Conversation((*prompt, *(Turn(t.role, t.content, t.role == "assistant") for t in completion)))


def _turns(document: dict[str, Any], key: str) -> list[Turn]:
    value = document.get(key)
    if key not in document:
        raise BadRecord(f"{key} is missing; expected a list of {{role, content}}")
    if not isinstance(value, list):
        raise BadRecord(f"{key} is {_kind(value)}; expected a list of {{role, content}}")
    if not value:
        raise BadRecord(f"{key} is an empty list; expected at least one {{role, content}}")
    return [_turn(item, f"{key}[{index}]") for index, item in enumerate(value)]


def _turn(item: Any, place: str) -> Turn:
    if not isinstance(item, dict):
        raise BadRecord(f"{place} is {_kind(item)}; expected an object with role and content")
    role = item.get("role")
    if "role" not in item:
        raise BadRecord(f"{place}.role is missing; expected one of {', '.join(ROLES)}")
    if role not in ROLES:
        shown = repr(role) if isinstance(role, str) else _kind(role)
        raise BadRecord(f"{place}.role is {shown:.60}; expected one of {', '.join(ROLES)}")
    if item.get("tool_calls"):
        raise BadRecord(f"{place}.tool_calls: tool calls are not supported; write the call as text in content")
    return Turn(str(role), _text(item, "content", f"{place}.content"), trained=False)


def _text(document: dict[str, Any], key: str, place: str | None = None) -> str:
    """A string that holds more than white space."""
    name = place or key
    value = document.get(key)
    if key not in document:
        raise BadRecord(f"{name} is missing; expected a non-empty string")
    if not isinstance(value, str):
        raise BadRecord(f"{name} is {_kind(value)}; expected a non-empty string")
    if not value.strip():
        raise BadRecord(f"{name} is empty; expected a non-empty string")
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"
