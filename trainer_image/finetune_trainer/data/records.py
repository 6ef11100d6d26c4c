"""A training record in one form, whatever format it was written in.

Everything after validation (split, tokenization, evaluation) knows two shapes only: a conversation whose turns are
trained or not, and a plain prompt with its completion. No torch and no transformers here: preflight uses it too.
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


Record = Conversation | TextPair


def alpaca_prompt(instruction: str, context: str) -> str:
    """The prompt text of the Stanford Alpaca project, in its two variants."""
    if context:
        return ALPACA_WITH_INPUT.format(instruction=instruction, input=context)
    return ALPACA.format(instruction=instruction)


def content_digest(record: Record) -> int:
    """64 bits that depend on the content alone: equal records are equal wherever they stand."""
    if isinstance(record, Conversation):
        form: object = [[t.role, t.content, t.trained] for t in record.turns]
    else:
        form = {"prompt": record.prompt, "completion": record.completion}
    text = json.dumps(form, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
