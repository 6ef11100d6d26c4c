"""Held-out records as questions to an engine, rendered by the engine itself: it has the model's own template.

A conversation is cut before its last trained turn and goes to the chat endpoint; a prompt with a completion goes to
the completions endpoint as it stands. That is where publish cuts, too, so its exactMatch and this one are of the same
questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from finetune_api.data import DataSource
from finetune_api.exitcodes import ExitCode
from finetune_api.serveconfig import ServeConfig
from finetune_artifacts import NotFound
from finetune_trainer.common.errors import RunError
from finetune_trainer.data.chunks import as_file
from finetune_trainer.data.read import BadRecords, read_source
from finetune_trainer.data.records import Answered, Conversation, TextPair
from finetune_trainer.data.sources import NamedSource, list_files
from finetune_trainer.serve.reasons import Reason

DEFAULT_LIMIT = 64
"""As evaluation.samples.count; data.limit asks for more or fewer."""


@dataclass(frozen=True)
class Question:
    prompt: str
    messages: tuple[tuple[str, str], ...]
    """(role, content); with these the prompt is empty."""
    expected: str


def question_of(record: Answered) -> Question | None:
    """None for a conversation that the assistant begins: there is nothing to ask."""
    if not isinstance(record, Conversation):
        return Question(record.prompt, (), record.completion.strip())
    last = max(index for index, turn in enumerate(record.turns) if turn.trained)
    messages = tuple((turn.role, turn.content) for turn in record.turns[:last])
    return Question("", messages, record.turns[last].content.strip()) if messages else None


def read_questions(config: ServeConfig, field: str, source: DataSource) -> list[Question]:
    """The first `data.limit` questions (64 where it is not set) of the source.

    Raises RunError (66 for malformed or useless data, 69 when there is none yet), ArtifactError.
    """
    named = NamedSource(field, "", source, held_out=True)
    found = list(islice(_questions(config, named), source.limit or DEFAULT_LIMIT))
    if not found:
        raise RunError(
            ExitCode.DATA_INVALID,
            f"{field}: {source.uri} holds no record that can be asked; expected Messages, Alpaca or PromptCompletion",
            reason=Reason.NO_RECORDS,
        )
    return found


def _questions(config: ServeConfig, named: NamedSource) -> Iterator[Question]:
    try:
        files = list_files(config, named)
    except NotFound:
        files = []
    if not files:
        raise RunError(
            ExitCode.WAITING,
            f"{named.field}: nothing is stored at {named.source.uri}: expected a file of JSON Lines, JSON, CSV, "
            "Parquet or text, or such files below it; upload the data or correct the URI. It is looked for again",
            reason=Reason.WAITING_FOR_DATASET,
        )
    bad = BadRecords(0)
    for file in files:
        stream = as_file(file.store, file.entry)
        for located in read_source(stream, named, name=file.name, bad=bad, kinds=(Conversation, TextPair)):
            if isinstance(located.record, Conversation | TextPair):
                question = question_of(located.record)
                if question is not None:
                    yield question
