"""Preferences: two answers to compare, or one answer with a verdict.

The answers of a pair become whole records of the kind that SFT trains, so that one encoder and one mask serve both.
A prompt may be left out where both answers are conversations that begin alike: it is what they share.
"""

from __future__ import annotations

from typing import Any

from finetune_trainer.data.parts import BadRecord, kind, text, turns
from finetune_trainer.data.records import Answered, Conversation, Preference, Rated, TextPair, Turn


def preference(document: dict[str, Any]) -> Preference:
    """`{prompt, chosen, rejected}`. Raises BadRecord."""
    for key in ("chosen", "rejected"):
        if key not in document:
            raise BadRecord(f"{key} is missing; expected the answer that is {'better' if key == 'chosen' else 'worse'}")
    talks = [key for key in ("chosen", "rejected") if isinstance(document[key], list)]
    if len(talks) == 1:
        other = "rejected" if talks[0] == "chosen" else "chosen"
        raise BadRecord(
            f"{other} is {kind(document[other])} while {talks[0]} is a list of messages; expected both alike"
        )
    pair = _conversations(document) if talks else _texts(document)
    if pair.chosen == pair.rejected:
        raise BadRecord("chosen and rejected are the same answer; there is nothing to prefer")
    return pair


def rated(document: dict[str, Any], answer: Answered) -> Rated:
    """`{prompt, completion, label}`. Raises BadRecord."""
    label = document.get("label")
    if not isinstance(label, bool):
        raise BadRecord(f"label is {kind(label)}; expected true (a good answer) or false")
    return Rated(answer, label)


def _texts(document: dict[str, Any]) -> Preference:
    if isinstance(document.get("prompt"), list):
        raise BadRecord(
            f"chosen is {kind(document['chosen'])} while prompt is a list of messages; expected lists of messages"
        )
    prompt = text(document, "prompt")
    return Preference(TextPair(prompt, text(document, "chosen")), TextPair(prompt, text(document, "rejected")))


def _conversations(document: dict[str, Any]) -> Preference:
    chosen, rejected = turns(document, "chosen"), turns(document, "rejected")
    if document.get("prompt") is None:
        shared = _shared(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        if not prompt:
            raise BadRecord("prompt is missing, and chosen and rejected do not begin alike; expected a prompt")
    elif isinstance(document["prompt"], str):
        prompt = [Turn("user", text(document, "prompt"), trained=False)]
        if all(part and part[0] == prompt[0] for part in (chosen, rejected)):
            chosen, rejected = chosen[1:], rejected[1:]
    else:
        prompt = turns(document, "prompt")
    return Preference(_answer(prompt, chosen, "chosen"), _answer(prompt, rejected, "rejected"))


def _answer(prompt: list[Turn], answer: list[Turn], key: str) -> Conversation:
    if not any(t.role == "assistant" for t in answer):
        raise BadRecord(f"{key} has no turn of the role 'assistant' of its own; there would be nothing to compare")
    return Conversation((*prompt, *(Turn(t.role, t.content, t.role == "assistant") for t in answer)))


def _shared(first: list[Turn], second: list[Turn]) -> int:
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b or count == min(len(first), len(second)) - 1:
            break
        count += 1
    return count
