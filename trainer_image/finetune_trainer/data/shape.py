"""From a file's own columns to the fields of a record: renamed by `columns`, or written by a `template`.

A template is text with names between braces and nothing more: the contract refuses attributes, indices and format
specifications, so a data set cannot reach into the program that reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from string import Formatter
from typing import Any

from finetune_api.data import Columns, DataFormat, DataSource, Template
from finetune_trainer.data.lines import Rows, Unreadable
from finetune_trainer.data.parts import BadRecord, kind
from finetune_trainer.data.validate import detect

_LISTS = ("messages", "conversations", "prompt", "completion", "chosen", "rejected")
_CHAT = ("system", "user", "assistant")


@dataclass(frozen=True)
class Shape:
    """What becomes of a source's documents before they are validated."""

    data_format: DataFormat = DataFormat.AUTO
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field of a record: column of the file."""
    template: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    """The columns that the template asks for."""

    @property
    def plain(self) -> bool:
        return not self.columns and not self.template

    def check(self, rows: Rows) -> None:
        """Raises Unreadable when a table lacks a column that is named."""
        if rows.columns is None:
            return
        wanted = {column: f"columns.{name}" for name, column in self.columns.items()}
        given = {*rows.columns, *self.columns}
        wanted |= {name: "template" for name in self.names if name not in given}
        for column, where in wanted.items():
            if column not in rows.columns:
                have = ", ".join(rows.columns)
                raise Unreadable(f"has no column {column!r}, which {where} names; its columns are {have:.300}")

    def apply(self, document: dict[str, Any]) -> dict[str, Any]:
        """The record's fields. Raises BadRecord when one that is asked for is not there."""
        result = document
        if self.columns:
            missing = [(name, column) for name, column in self.columns.items() if column not in document]
            if missing:
                name, column = missing[0]
                raise BadRecord(f"{column} is missing, which columns.{name} names; the record has {_keys(document)}")
            result = document | {name: document[column] for name, column in self.columns.items()}
        if self.template:
            result = self._written(result)
        return result

    def _written(self, document: dict[str, Any]) -> dict[str, Any]:
        values = {name: _value(document, name) for name in self.names}
        done: dict[str, Any] = {name: text.format_map(values) for name, text in self.template.items()}
        if "user" not in done:
            # What a template writes is the text; its label stays what it is.
            return done | ({"label": document["label"]} if "label" in document else {})
        return {"messages": [{"role": role, "content": done[role]} for role in _CHAT if role in done]}


def shape_of(source: DataSource) -> Shape:
    columns = _set(source.columns) if source.columns else {}
    template = _set(source.template) if source.template else {}
    names = {
        name for text in template.values() for _literal, name, _spec, _conversion in Formatter().parse(text) if name
    }
    data_format = source.format
    if columns and not template and data_format is DataFormat.AUTO:
        # What was mapped on purpose says what it is, whatever else a record carries.
        try:
            data_format = detect(dict(columns))
        except BadRecord:
            data_format = DataFormat.AUTO
        if data_format is DataFormat.PROMPT_COMPLETION and "completion" not in columns:
            data_format = DataFormat.AUTO
    return Shape(data_format, columns, template, tuple(sorted(names)))


def from_cells(document: dict[str, Any]) -> dict[str, Any]:
    """Cells that hold text only: a list of messages or labels in one is written as JSON, a verdict as true
    or false.

    Raises BadRecord when a cell that begins as such a list is not JSON.
    """
    result = dict(document)
    for name in _LISTS:
        cell = result.get(name)
        if isinstance(cell, str) and cell.startswith("[{"):
            try:
                result[name] = json.loads(cell)
            except ValueError as error:
                raise BadRecord(f"{name} begins as a list of messages and is not JSON: {error}") from None
    label = result.get("label")
    if isinstance(label, str) and label.lower() in ("true", "false"):
        result["label"] = label.lower() == "true"
    elif isinstance(label, str) and label.startswith("["):
        with suppress(ValueError):
            result["label"] = json.loads(label)
    return result


def _set(block: Columns | Template) -> dict[str, str]:
    return {name: str(value) for name, value in block.model_dump(exclude_none=True).items()}


def _value(document: dict[str, Any], name: str) -> str:
    if name not in document:
        raise BadRecord(f"{name} is missing, which the template names; the record has {_keys(document)}")
    value = document[name]
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and value == value):
        return json.dumps(value)
    raise BadRecord(f"{name} is {kind(value)}; a template takes texts and numbers")


def _keys(document: dict[str, Any]) -> str:
    return f"{', '.join(document) or 'no fields':.200}"
