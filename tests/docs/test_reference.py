"""The reference page is what its generator writes, and it has every field."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "docs" / "reference"


def fields(schema: Mapping[str, Any]) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        yield name
        yield from fields(child)
    if "items" in schema:
        yield from fields(schema["items"])


def test_the_page_has_no_diff() -> None:
    page: Callable[[], str] = runpy.run_path(str(FOLDER / "generate.py"))["page"]
    assert (FOLDER / "finetunejob.md").read_text() == page(), "run `make generate`"


def test_every_field_of_the_crd_has_a_row() -> None:
    crd = yaml.safe_load((REPO / "crds" / "finetunejobs.yaml").read_text())
    root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    text = (FOLDER / "finetunejob.md").read_text()
    # `name` of a secretRef is explained once, in the introduction.
    missing = {f for part in ("spec", "status") for f in fields(root[part]) if f"| `{f}` |" not in text}
    assert missing <= {"name"}


def test_every_link_inside_the_page_has_its_heading() -> None:
    text = (FOLDER / "finetunejob.md").read_text()
    anchors = {
        "#" + "".join(c for c in line[4:].lower() if c.isalnum())
        for line in text.splitlines()
        if line.startswith("### ")
    }
    links = {part.split(")")[0] for part in text.split("[block](")[1:]}
    assert links
    assert links <= anchors
