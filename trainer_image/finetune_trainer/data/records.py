"""A training record in one form, whatever format it was written in.

Everything after validation (split, tokenization, evaluation) knows these shapes only: a conversation whose turns are
trained or not, a plain prompt with its completion, raw text, and what preferences and rewards are learned from, made
of the first two; and texts with their labels. No torch and no transformers here: preflight uses it too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

ROLES = ("system", "user", "assistant", "tool")

ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


@dataclass(frozen=True, slots=True)
class Turn:
    role: str
    content: str
    trained: bool
    """Whether the model learns to write this turn."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Rendered by the tokenizer's chat template. At least one turn is trained, and those are the assistant's."""

    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class TextPair:
    """Rendered as it stands: prompt, completion, end of sequence. The completion is trained."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Document:
    """Raw text: all of it is trained, and the end of sequence after it."""

    text: str


Answered = Conversation | TextPair


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt. Each is a whole record as SFT would train it; they share all that is not trained."""

    chosen: Answered
    rejected: Answered


@dataclass(frozen=True, slots=True)
class Rated:
    """One answer and whether it was a good one (unpaired preference, as KTO takes it)."""

    answer: Answered
    good: bool


Label = str | int
"""Its name, or its number."""


@dataclass(frozen=True, slots=True)
class Labeled:
    """A text and the labels it has: nothing of it is written, all of it is read."""

    text: str
    labels: tuple[Label, ...]


Record = Answered | Document | Preference | Rated | Labeled


def alpaca_prompt(instruction: str, context: str) -> str:
    """The prompt text of the Stanford Alpaca project, in its two variants."""
    if context:
        return ALPACA_WITH_INPUT.format(instruction=instruction, input=context)
    return ALPACA.format(instruction=instruction)


def answers(record: Record) -> tuple[Record, ...]:
    """What is read by itself: two answers of a preference, the one that was rated, or the record."""
    if isinstance(record, Preference):
        return record.chosen, record.rejected
    return (record.answer,) if isinstance(record, Rated) else (record,)


def content_digest(record: Record) -> int:
    """64 bits that depend on the content alone: equal records are equal wherever they stand."""
    text = json.dumps(_form(record), ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _form(record: Record) -> object:
    """Never changed: who is held out follows from it."""
    if isinstance(record, Conversation):
        return [[t.role, t.content, t.trained] for t in record.turns]
    if isinstance(record, TextPair):
        return {"prompt": record.prompt, "completion": record.completion}
    if isinstance(record, Document):
        return {"text": record.text}
    if isinstance(record, Preference):
        return {"chosen": _form(record.chosen), "rejected": _form(record.rejected)}
    if isinstance(record, Labeled):
        return {"text": record.text, "labels": list(record.labels)}
    return {"answer": _form(record.answer), "good": record.good}
