"""From a parsed document to a record, or to the reason why it is none.

A reason names the place inside the record, what was found and what was expected, so that the user can fix the line
without reading our code.
"""

from __future__ import annotations

from typing import Any

from finetune_api.data import DataFormat
from finetune_trainer.data.labels import labeled
from finetune_trainer.data.parts import BadRecord, kind, text, turns
from finetune_trainer.data.preferences import preference, rated
from finetune_trainer.data.records import Conversation, Document, Record, TextPair, Turn, alpaca_prompt
from finetune_trainer.data.sharegpt import sharegpt

__all__ = ["BadRecord", "detect", "validate"]

KNOWN = (
    "Messages {messages: [{role, content}]}, ShareGPT {conversations: [{from, value}]}, "
    "Alpaca {instruction, input, output}, PromptCompletion {prompt, completion}, Text {text}, "
    "Preference {prompt, chosen, rejected} and Labeled {text, label}; data.train[].columns gives columns these names"
)

_BY_KEY = (
    ("messages", DataFormat.MESSAGES),
    ("instruction", DataFormat.ALPACA),
    ("completion", DataFormat.PROMPT_COMPLETION),
    ("chosen", DataFormat.PREFERENCE),
    ("rejected", DataFormat.PREFERENCE),
    ("conversations", DataFormat.SHAREGPT),
    ("prompt", DataFormat.PROMPT_COMPLETION),
    ("text", DataFormat.TEXT),
)
"""The first key that is there decides. What older versions could train on stands first, so that a set with columns
besides is read as it was."""


def detect(document: dict[str, Any]) -> DataFormat:
    """The format by the keys that are there. Raises BadRecord when no known format fits."""
    for key, found in _BY_KEY:
        if key in document:
            return found
    keys = ", ".join(sorted(map(repr, document))[:8]) or "none"
    raise BadRecord(f"no known format has the keys {keys:.200}; expected {KNOWN}")


def validate(document: Any, data_format: DataFormat) -> Record:
    """The record. `data_format` must be resolved (not Auto). Raises BadRecord."""
    if data_format is DataFormat.MESSAGES:
        return _conversation(turns(document, "messages"), "messages")
    if data_format is DataFormat.SHAREGPT:
        return _conversation(sharegpt(document), "conversations")
    if data_format is DataFormat.ALPACA:
        instruction = text(document, "instruction")
        context = document.get("input")
        if context is not None and not isinstance(context, str):
            raise BadRecord(f"input is {kind(context)}; expected a string, or leave it out")
        return TextPair(alpaca_prompt(instruction, (context or "").strip()), text(document, "output"))
    if data_format is DataFormat.TEXT:
        return Document(text(document, "text"))
    if data_format is DataFormat.LABELED:
        return labeled(document)
    if data_format is DataFormat.PREFERENCE:
        paired = "chosen" in document or "rejected" in document or "label" not in document
        return preference(document) if paired else rated(document, _pair(document))
    return _pair(document)


def _conversation(found: list[Turn], key: str) -> Conversation:
    record = Conversation(tuple(Turn(t.role, t.content, t.role == "assistant") for t in found))
    if not any(t.trained for t in record.turns):
        raise BadRecord(f"{key} has no turn of the role 'assistant'; there would be nothing to learn")
    return record


def _pair(document: dict[str, Any]) -> Conversation | TextPair:
    if isinstance(document.get("prompt"), list) or isinstance(document.get("completion"), list):
        return _conversational_pair(document)
    return TextPair(text(document, "prompt"), text(document, "completion"))


def _conversational_pair(document: dict[str, Any]) -> Conversation:
    for key in ("prompt", "completion"):
        if not isinstance(document.get(key), list):
            raise BadRecord(
                f"{key} is {kind(document.get(key))} while the other is a list of messages; "
                "expected both as strings or both as lists of messages"
            )
    prompt, completion = turns(document, "prompt"), turns(document, "completion")
    if not any(t.role == "assistant" for t in completion):
        raise BadRecord("completion has no turn of the role 'assistant'; there would be nothing to learn")
    return Conversation((*prompt, *(Turn(t.role, t.content, t.role == "assistant") for t in completion)))
