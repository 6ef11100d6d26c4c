"""Whether two models mean the same tokens by the same numbers, from their files alone.

Comparing distributions over tokens is meaningless where the numbers differ, and nothing would fail: the loss would
only be noise. So it is asked before a GPU is taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_artifacts import Entry, Store
from finetune_trainer.model.inspect import TOKENIZER_FILES, ModelInfo

_FAST = "tokenizer.json"


@dataclass(frozen=True)
class Vocabulary:
    size: int | None
    """Tokens that the model tells apart, padding of its tables included; None where config.json does not say."""
    file: str
    """What was read."""
    content: bytes | Mapping[str, int]
    """Text to number of a tokenizer.json; of other files the bytes."""


def read_vocabulary(store: Store, entries: list[Entry], model: ModelInfo) -> Vocabulary:
    """Of a model that `inspect_model` let pass. Raises ArtifactError."""
    there = {entry.path for entry in entries}
    file = next(name for name in TOKENIZER_FILES if name in there)
    content: bytes | Mapping[str, int] = store.get_bytes(file)
    if file == _FAST:
        content = _tokens(content)
    return Vocabulary(model.number("vocab_size"), file, content)


def difference(student: Vocabulary, teacher: Vocabulary) -> str | None:
    """In words; None where there is none."""
    if student.size != teacher.size:
        return f"it tells {teacher.size} tokens apart (vocab_size), the base model {student.size}"
    if student.file != teacher.file:
        return f"its tokenizer is a {teacher.file}, the base model's a {student.file}, which cannot be compared"
    if student.content == teacher.content:
        return None
    if isinstance(student.content, bytes) or isinstance(teacher.content, bytes):
        return f"its {teacher.file} is another one than the base model's"
    both = {**student.content, **teacher.content}
    unlike = sorted(t for t in both if student.content.get(t) != teacher.content.get(t))
    example = unlike[0]
    there, here = (tokens.get(example, "missing") for tokens in (teacher.content, student.content))
    return (
        f"its tokenizer gives {len(unlike)} tokens other numbers, {example!r:.40} for example is {there} there and "
        f"{here} in the base model"
    )


def _tokens(content: Any) -> Mapping[str, int]:
    """A BPE's or WordPiece's map, a Unigram's list of (text, score), and what was added to either."""
    try:
        document = json.loads(content)
        vocabulary = document.get("model", {}).get("vocab", {})
        if isinstance(vocabulary, list):
            vocabulary = {entry[0]: number for number, entry in enumerate(vocabulary)}
        added = {entry["content"]: entry["id"] for entry in document.get("added_tokens") or []}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return {}
    return {**vocabulary, **added}
