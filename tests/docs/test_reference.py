"""The reference pages are what their generator writes, and have every field."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from finetune_api.retention import Retention
from finetune_cli import combinations
from finetune_operator.core import names
from finetune_trainer.serve import reasons
from tests.crds import crd

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "docs" / "reference"


def fields(schema: Mapping[str, Any]) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        yield name
        yield from fields(child)
    if "items" in schema:
        yield from fields(schema["items"])


@pytest.mark.slow
def test_the_pages_have_no_diff() -> None:
    pages: Callable[[], dict[Path, str]] = runpy.run_path(str(FOLDER / "generate.py"))["pages"]
    for path, text in pages().items():
        assert path.read_text() == text, "run `make generate`"


@pytest.mark.parametrize("kind", ["finetunejob", "modeldeployment"])
def test_every_field_of_the_crd_has_a_row(kind: str) -> None:
    root = crd(f"{kind}s")["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    text = (FOLDER / f"{kind}.md").read_text()
    # `name` of a secretRef is explained once, in the introduction.
    missing = {f for part in ("spec", "status") for f in fields(root[part]) if f"| `{f}` |" not in text}
    assert missing <= {"name"}


@pytest.mark.parametrize("kind", ["finetunejob", "modeldeployment"])
def test_every_link_inside_the_page_has_its_heading(kind: str) -> None:
    text = (FOLDER / f"{kind}.md").read_text()
    anchors = {
        "#" + "".join(c for c in line[4:].lower() if c.isalnum())
        for line in text.splitlines()
        if line.startswith("### ")
    }
    links = {part.split(")")[0] for part in text.split("[block](")[1:]}
    assert links
    assert links <= anchors


def test_only_what_the_api_server_freezes_is_called_frozen() -> None:
    assert "**frozen**" in (FOLDER / "finetunejob.md").read_text()
    assert "**frozen**" not in (FOLDER / "modeldeployment.md").read_text()


def test_every_retention_term_is_among_the_combinations() -> None:
    assert set(combinations.RETENTION) == {field.alias or name for name, field in Retention.model_fields.items()}


@pytest.mark.parametrize("objective", combinations.OBJECTIVES)
def test_every_objective_is_taken_with_something(objective: str) -> None:
    """Otherwise the part that chooses it lacks what it cannot do without."""
    chosen = combinations.OBJECTIVES[objective]
    assert not combinations.refusals(chosen, combinations.METHODS["LoRA"], combinations.STRATEGIES["DDP"])


QUIET = {"Accepted", "Healthy", "ScaledToZero", "Verified", "Fetched", "Checked"}
"""Nothing to look up: all is well."""


def test_every_reason_of_a_deployment_is_explained() -> None:
    text = (REPO / "docs" / "guides" / "troubleshooting.md").read_text()
    policies = (REPO / "operator" / "finetune_operator" / "core" / "serving").rglob("*.py")
    used = {n for path in policies for n in re.findall(r"\bReason\.([A-Z_]+)", path.read_text())}
    assert len(used) > 30
    told = {getattr(names.Reason, name) for name in used} | {str(r) for r in reasons.Reason}
    assert {reason for reason in told - QUIET if f"`{reason}`" not in text} == set()
