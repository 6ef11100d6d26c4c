from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.core.memory import Memory


class Counting:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, document: Any) -> tuple[Any, ...]:
        self.calls.append(dict(document))
        if "bad" in document:
            raise ValueError("bad")
        return tuple(sorted(document.items()))


def test_the_same_document_is_parsed_once() -> None:
    parse = Counting()
    memory = Memory(parse)
    assert memory("a", {"x": 1}) is memory("a", {"x": 1})
    assert len(parse.calls) == 1


def test_a_changed_document_is_parsed_again_even_when_changed_in_place() -> None:
    memory = Memory(Counting())
    document = {"x": 1}
    assert memory("a", document) == (("x", 1),)
    document["x"] = 2
    assert memory("a", document) == (("x", 2),)
    assert memory("a", {"x": 1}) == (("x", 1),)


def test_names_share_nothing() -> None:
    memory = Memory(Counting())
    assert (memory("a", {"x": 1}), memory("b", {"x": 2})) == ((("x", 1),), (("x", 2),))


def test_errors_are_not_kept() -> None:
    parse = Counting()
    memory = Memory(parse)
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            memory("a", {"bad": 1})
    assert len(parse.calls) == 2


def test_the_longest_unused_is_forgotten() -> None:
    parse = Counting()
    memory = Memory(parse, kept=2)
    for name in ("a", "b", "a", "c"):  # "b" has to go
        memory(name, {name: 1})
    parse.calls.clear()
    memory("a", {"a": 1})
    memory("c", {"c": 1})
    assert parse.calls == []
    memory("b", {"b": 1})
    assert parse.calls == [{"b": 1}]
