"""Reads manifests so that every later word about them can name the file and the line.

The reading is the API server's, not PyYAML's: `2e-4` is a number, and a key written twice is a mistake.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from finetune_api.exitcodes import ExitCode
from finetune_trainer.common.errors import RunError

Where = tuple[str | int, ...]
"""A path within a document, such as ("spec", "data", "train", 0, "uri")."""
STDIN = "-"


@dataclass(frozen=True)
class Problem:
    file: str
    line: int | None
    object: str
    """Kind/name, as far as they are known."""
    field: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}" + (f"; {self.hint}" if self.hint else "")


@dataclass
class Manifest:
    file: str
    document: dict[str, Any]
    lines: dict[Where, int]
    duplicates: list[Where] = field(default_factory=list)
    set_by: dict[Where, str] = field(default_factory=dict)
    """Fields that come from the command line."""

    @property
    def kind(self) -> str:
        return str(self.document.get("kind") or "?")

    @property
    def metadata(self) -> dict[str, Any]:
        found = self.document.get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def name(self) -> str:
        return str(self.metadata.get("name") or "?")

    @property
    def namespace(self) -> str:
        return str(self.metadata.get("namespace") or "default")

    @property
    def title(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def folder(self) -> Path:
        """What relative paths in it are relative to."""
        return Path.cwd() if self.file == STDIN else Path(self.file).resolve().parent

    def line(self, where: Where) -> int | None:
        """Of the field, or of the nearest one above that is written down."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where)

    def problem(self, where: Where, message: str, hint: str | None = None) -> Problem:
        source = next((self.set_by[where[:n]] for n in range(len(where), 0, -1) if where[:n] in self.set_by), None)
        line = None if source else self.line(where)
        return Problem(source or self.file, line, self.title, dotted(where), message, hint)


def dotted(where: Where) -> str:
    """`spec.data.train[0].uri`, as the API server writes it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")


class _Loader(yaml.SafeLoader):
    """With the numbers of YAML 1.2, which is what kubectl sends."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)$"),
    list("-+0123456789."),
)


def unreadable(file: str, message: str) -> RunError:
    return RunError(ExitCode.INVALID_SPEC, f"{file}: {message}", reason="Unreadable")


def read(files: list[str]) -> list[Manifest]:
    """Every document of every file. Raises RunError (64)."""
    found = [manifest for file in files for manifest in _read_file(file)]
    if not found:
        raise unreadable(", ".join(files), "no document in it; write a FineTuneJob (see examples/01-finetune.yaml)")
    return found


def _read_file(file: str) -> Iterator[Manifest]:
    try:
        text = sys.stdin.read() if file == STDIN else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise unreadable(file, f"cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise unreadable(file, "is not UTF-8 text; is it the right file?") from None
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            value = None if node is None else loader.construct_document(node)
            if node is None or value is None:
                continue
            line = node.start_mark.line + 1
            if not isinstance(value, dict):
                raise unreadable(f"{file}:{line}", "expected a Kubernetes object with apiVersion, kind, metadata, spec")
            manifest = Manifest(file, value, {})
            _note(node, (), manifest)
            yield manifest
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}" if mark else file
        raise unreadable(place, f"is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise unreadable(file, f"is not YAML: {str(error).splitlines()[0]}") from None


def _note(node: yaml.Node, where: Where, manifest: Manifest) -> None:
    manifest.lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, child in node.value:
            below = (*where, str(key.value))
            if key.value in seen:
                manifest.duplicates.append(below)
            seen.add(key.value)
            manifest.lines[below] = key.start_mark.line + 1
            _note(child, below, manifest)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _note(child, (*where, index), manifest)
