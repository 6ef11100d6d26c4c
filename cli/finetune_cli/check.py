"""What the API server would say of a manifest, all of it at once, with the line it is about."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from finetune_api.base import ApiModel
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_cli import rules, suggest
from finetune_cli.manifests import Manifest, Problem, Where, dotted

API_VERSION = "finetune.dev/v1alpha1"
SPECS: dict[str, type[ApiModel]] = {"FineTuneJob": FineTuneJobSpec, "ModelDeployment": ModelDeploymentSpec}


def check(manifest: Manifest) -> list[Problem]:
    """Empty when it would be taken. Objects of other kinds are not judged."""
    if not ours(manifest):
        close = suggest.value(manifest.kind, list(SPECS))
        version = str(manifest.document.get("apiVersion") or "")
        if version.startswith("finetune.dev/") and manifest.kind in SPECS:
            return [manifest.problem(("apiVersion",), f"apiVersion: {version!r} is not served", f"write {API_VERSION}")]
        if version.startswith("finetune.dev/") or (close and not version) or manifest.kind == "?":
            return [manifest.problem(("kind",), f"kind: {manifest.kind!r} is not one of {', '.join(SPECS)}", close)]
        return []
    found = [
        manifest.problem(where, f"{dotted(where)} is written twice; keep one of them") for where in manifest.duplicates
    ]
    found += _top(manifest)
    found += _structure(manifest)
    if found:
        return sorted(found, key=lambda p: p.line or 0)
    schema = rules.schema(manifest.kind)
    filled = rules.defaulted(schema, manifest.document)
    return [
        manifest.problem(where, f"{dotted(where)}: {message}" if where else message)
        for where, message in rules.broken(schema, filled)
    ]


def ours(manifest: Manifest) -> bool:
    return manifest.kind in SPECS and manifest.document.get("apiVersion") == API_VERSION


def spec_of(manifest: Manifest) -> FineTuneJobSpec:
    """Of a FineTuneJob that `check` found nothing wrong with."""
    return FineTuneJobSpec.model_validate(manifest.document["spec"])


def _top(manifest: Manifest) -> list[Problem]:
    found = []
    schema = rules.schema(manifest.kind)
    for name in manifest.document:
        if name not in schema["properties"]:
            hint = suggest.field(schema, (name,))
            found.append(manifest.problem((name,), f'unknown field "{name}"', hint))
    given = manifest.metadata.get("name")
    if not isinstance(given, str) or not given:
        hint = "generateName works with kubectl create only" if "generateName" in manifest.metadata else None
        found.append(manifest.problem(("metadata",), "metadata.name: expected a name", hint))
    return found


def _structure(manifest: Manifest) -> list[Problem]:
    try:
        SPECS[manifest.kind].model_validate(manifest.document.get("spec"))
    except ValidationError as error:
        problems: dict[str, Problem] = {}
        for detail in error.errors(include_url=False):
            problem = _in_words(manifest, dict(detail))
            problems.setdefault(problem.field, problem)
        return list(problems.values())
    return []


def _in_words(manifest: Manifest, detail: dict[str, Any]) -> Problem:
    schema = rules.schema(manifest.kind)
    where = _known(schema, ("spec", *detail["loc"]))
    kind, given = detail["type"], detail.get("input")
    path, node = dotted(where), rules.below(schema, where)
    if kind == "value_error" and not detail["loc"]:  # what does not go together names its fields itself
        return manifest.problem(where, str(detail["msg"]).removeprefix("Value error, "))
    shown = f"{path}: {given!r:.80}"
    if kind == "extra_forbidden":
        return manifest.problem(where, f'unknown field "{path}"', suggest.field(schema, where))
    if kind == "missing":
        return manifest.problem(where, f"{path}: is required", _described(node))
    if given is None and kind != "missing":
        return manifest.problem(where, f"{path}: is empty", _described(node) or "fill it in, or remove it")
    if kind in ("enum", "literal_error"):
        choices = [str(choice) for choice in node.get("enum", [])]
        return manifest.problem(
            where, f"{shown} is not one of {', '.join(choices)}", suggest.value(str(given), choices)
        )
    if kind == "string_type" and isinstance(given, int | float) and not isinstance(given, bool):
        return manifest.problem(
            where, f"{shown} is a number, and a text is expected", f'write "{_plain(given)}" in quotes'
        )
    if kind == "string_pattern_mismatch" or (path.endswith("uri") and kind == "string_too_short"):
        hint = _described(node)
        if path.endswith("uri") and "://" not in str(given):
            hint = f"{hint}; a relative path is understood by `finetune run`, `finetune plan` and `validate --local`"
        return manifest.problem(
            where, f"{shown} has not the form that is expected", hint or f"it must match {node.get('pattern')}"
        )
    message = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    lead = "must be " if str(detail["msg"]).startswith("Input should be ") else ""
    return manifest.problem(where, f"{shown}: {lead}{message}")


def _plain(number: float) -> str:
    return f"{number:g}"


def _described(node: dict[str, Any]) -> str | None:
    text = str(node.get("description") or "").strip().rstrip(".")
    return f"expected: {text}" if text else None


def _known(schema: dict[str, Any], where: Where) -> Where:
    """Without what pydantic adds to a path for the choices of a union."""
    kept: Where = ()
    for part in where:
        if isinstance(part, str) and part in ("int", "str", "[key]") and not rules.below(schema, (*kept, part)):
            continue
        kept = (*kept, part)
    return kept
