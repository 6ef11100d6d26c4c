"""Two tokenizers are held against each other by what they call each token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_artifacts import open_store
from finetune_trainer.model.inspect import ModelInfo
from finetune_trainer.model.vocabulary import Vocabulary, difference, read_vocabulary


def read(folder: Path, files: dict[str, Any], size: int | None = 8) -> Vocabulary:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    store = open_store(f"file://{folder}")
    config = {} if size is None else {"vocab_size": size}
    return read_vocabulary(store, list(store.list()), ModelInfo(config, "LlamaForCausalLM", (), False))


def fast(vocabulary: Any, *added: tuple[str, int]) -> dict[str, Any]:
    tokens = [{"content": text, "id": number} for text, number in added]
    return {"tokenizer.json": {"model": {"vocab": vocabulary}, "added_tokens": tokens}}


BPE = fast({"a": 0, "b": 1}, ("<s>", 2))


@pytest.mark.parametrize(
    ("teacher", "size", "words"),
    [
        (BPE, 8, None),
        (fast({"a": 0, "b": 1, "<s>": 2}), 8, None),
        (fast([["a", -1.0], ["b", -2.0]], ("<s>", 2)), 8, None),
        (
            fast({"a": 0, "b": 1}, ("</s>", 2)),
            8,
            "gives 2 tokens other numbers, '</s>' for example is 2 there and miss",
        ),
        (fast({"a": 1, "b": 0}, ("<s>", 2)), 8, "'a' for example is 1 there and 0 in the base model"),
        (BPE, 9, "it tells 9 tokens apart (vocab_size), the base model 8"),
        ({"tokenizer.model": "x"}, 8, "its tokenizer is a tokenizer.model, the base model's a tokenizer.json"),
    ],
)
def test_what_is_unlike_is_said(tmp_path: Path, teacher: dict[str, Any], size: int, words: str | None) -> None:
    found = difference(read(tmp_path / "base", BPE), read(tmp_path / "teacher", teacher, size))
    assert found is None if words is None else words in str(found)


def test_files_of_other_kinds_are_compared_as_they_are(tmp_path: Path) -> None:
    base = read(tmp_path / "base", {"tokenizer.model": "x"})
    assert difference(base, read(tmp_path / "same", {"tokenizer.model": "x"})) is None
    other = difference(base, read(tmp_path / "other", {"tokenizer.model": "y"}))
    assert other == "its tokenizer.model is another one than the base model's"
