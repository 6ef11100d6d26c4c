"""Changes to a manifest from the command line: `--set`, and paths relative to the manifest's folder."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import yaml

from finetune_api.exitcodes import ExitCode
from finetune_cli.manifests import Manifest, Where
from finetune_trainer.common.errors import RunError

_PART = re.compile(r"([^.\[\]]+)((?:\[\d+\])*)")
_URI = "uri"


def set_values(manifest: Manifest, assignments: list[str]) -> None:
    """Each is `spec.training.maxSteps=10`; the value is read as YAML. Raises RunError (64)."""
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.startswith("spec."):
            raise _wrong(assignment, "expected PATH=VALUE with a path below spec")
        where = _where(assignment, path)
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise _wrong(assignment, f"{text!r} is not a YAML value") from None
        _put(manifest.document, where, value, assignment)
        manifest.set_by[where] = f"--set {path}"


def absolute_paths(manifest: Manifest) -> None:
    """Every `uri` without a scheme becomes a file:// URI: relative to the manifest, `~` is the home directory."""
    _resolve(manifest.document.get("spec"), manifest)


def _resolve(value: Any, manifest: Manifest) -> None:
    if isinstance(value, list):
        for item in value:
            _resolve(item, manifest)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == _URI and isinstance(item, str) and item and "://" not in item:
                value[name] = file_uri(manifest, item)
            else:
                _resolve(item, manifest)


def file_uri(manifest: Manifest, text: str) -> str:
    return f"file://{(manifest.folder / Path(text).expanduser()).resolve()}"


def _where(assignment: str, path: str) -> Where:
    where: list[str | int] = []
    for part in path.split("."):
        match = _PART.fullmatch(part)
        if match is None:
            raise _wrong(assignment, f"{part!r} is not a field; write for example spec.data.train[0].limit=100")
        where.append(match[1])
        where += [int(index) for index in re.findall(r"\d+", match[2])]
    return tuple(where)


def _put(document: Any, where: Where, value: Any, assignment: str) -> None:
    for part, following in itertools.pairwise(where):
        if isinstance(part, int):
            document = _item(document, part, assignment)
            continue
        if document.get(part) is None:
            document[part] = {}
        document = document[part]
        if not isinstance(document, list if isinstance(following, int) else dict):
            raise _wrong(assignment, f"{part} is not a {'list' if isinstance(following, int) else 'block'} here")
    last = where[-1]
    if isinstance(last, int):
        _item(document, last, assignment)
    document[last] = value


def _item(items: list[Any], index: int, assignment: str) -> Any:
    if index >= len(items):
        raise _wrong(assignment, f"there are {len(items)} entries, the first is [0]")
    return items[index]


def _wrong(assignment: str, expected: str) -> RunError:
    return RunError(ExitCode.INVALID_SPEC, f"--set {assignment}: {expected}")
