"""What the spec asks to leave out of records, or of the set: reasoning, filters, which turns are learned.

Preflight and the trainer refine the same way, so the number of records that a plan of steps is made from is the one
that is trained on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from finetune_api.data import Data, Reasoning, TrainOn
from finetune_api.datafilters import Filter, FilterAction, FilterType, PiiFilter
from finetune_trainer.data import texts
from finetune_trainer.data.records import (
    ALPACA,
    ALPACA_WITH_INPUT,
    Conversation,
    Document,
    Labeled,
    Preference,
    Rated,
    Record,
    TextPair,
)

Change = Callable[[str, bool], str]
"""(text, whether it is trained) to the text that stands in its place."""

_THOUGHT = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
_LEADS = tuple(prompt.partition("### ")[0] for prompt in (ALPACA, ALPACA_WITH_INPUT))
REASONING = "Reasoning"


class Refiner:
    """`left_out` counts the records that were dropped, by what dropped them, `cleaned` those that were changed."""

    def __init__(self, data: Data) -> None:
        self._filters = data.filters or []
        self._strip = data.reasoning is Reasoning.STRIP
        self._last_turn = data.train_on is TrainOn.COMPLETION
        self._idle = not (self._filters or self._strip or self._last_turn)
        self.left_out: Counter[str] = Counter()
        self.cleaned: Counter[str] = Counter()

    def apply(self, record: Record) -> Record | None:
        """None for a record that is left out."""
        if self._idle:
            return record
        result: Record | None = record
        if self._strip:
            result = self._changed(record, lambda text, trained: _THOUGHT.sub("", text) if trained else text, REASONING)
        for wanted in self._filters:
            if result is None:
                return None
            result = self._filtered(result, wanted)
        if self._last_turn and isinstance(result, Conversation):
            last = max(index for index, turn in enumerate(result.turns) if turn.trained)
            turns = tuple(replace(turn, trained=index == last) for index, turn in enumerate(result.turns))
            return Conversation(turns)
        return result

    def _filtered(self, record: Record, wanted: Filter) -> Record | None:
        if wanted.type is FilterType.LENGTH and wanted.length:
            size = sum(len(text) for text, _ in parts(record))
            low, high = wanted.length.min_characters or 0, wanted.length.max_characters
            return self._kept(record, low <= size and (high is None or size <= high), wanted.type)
        if wanted.type is FilterType.QUALITY and wanted.quality:
            good = all(texts.good(text, wanted.quality) for text, trained in parts(record) if trained)
            return self._kept(record, good, wanted.type)
        clean = _cleaner(wanted)
        if wanted.action is FilterAction.CLEAN:
            return self._changed(record, lambda text, _: clean(text), wanted.type)
        return self._kept(record, all(clean(text) == text for text, _ in parts(record)), wanted.type)

    def _kept(self, record: Record, keep: bool, why: str) -> Record | None:
        self.left_out[why] += not keep
        return record if keep else None

    def _changed(self, record: Record, change: Change, why: str) -> Record | None:
        result = changed(record, change)
        if result == record:
            return record
        # An answer of which nothing is left would teach the model to say nothing.
        if any(not text.strip() for text, _ in parts(result)):
            self.left_out[why] += 1
            return None
        self.cleaned[why] += 1
        return result


def _cleaner(wanted: Filter) -> Callable[[str], str]:
    if wanted.type is FilterType.HTML:
        return texts.without_html
    if wanted.type is FilterType.CONTROL_CHARACTERS:
        return texts.without_control_characters
    kinds = (wanted.pii or PiiFilter()).kinds
    return lambda text: texts.without_personal_data(text, kinds)


def parts(record: Record) -> list[tuple[str, bool]]:
    """Every text of a record and whether it is trained (or, of a preference, compared)."""
    found: list[tuple[str, bool]] = []

    def note(text: str, trained: bool) -> str:
        found.append((text, trained))
        return text

    changed(record, note)
    return found


def words_of(record: Record) -> str:
    """What near duplicates are told by: all texts, without the sentences that every Alpaca prompt begins with."""
    found = [text for text, _ in parts(record)]
    for lead in _LEADS:
        found[0] = found[0].removeprefix(lead)
    return "\n".join(found)


def changed(record: Record, change: Change) -> Record:
    """The record with every text replaced."""
    if isinstance(record, Conversation):
        return Conversation(tuple(replace(t, content=change(t.content, t.trained)) for t in record.turns))
    if isinstance(record, TextPair):
        return TextPair(change(record.prompt, False), change(record.completion, True))
    if isinstance(record, Document):
        return Document(change(record.text, True))
    if isinstance(record, Preference):
        chosen, rejected = changed(record.chosen, change), changed(record.rejected, change)
        assert isinstance(chosen, Conversation | TextPair)
        assert isinstance(rejected, Conversation | TextPair)
        return Preference(chosen, rejected)
    if isinstance(record, Labeled):
        return replace(record, text=change(record.text, True))
    answer = changed(record.answer, change)
    assert isinstance(answer, Conversation | TextPair)
    return Rated(answer, record.good)
