"""The generator gives what the API server accepts, the same every time, and fails loudly on what has no form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from finetune_api.base import ApiModel
from finetune_api.crdgen import CRDS, to_yaml
from finetune_api.structural import CrdError, structural

CHECKED_IN = Path(__file__).parents[2] / "crds"


@pytest.mark.parametrize("plural", CRDS)
def test_the_checked_in_crd_is_what_the_types_say(plural: str) -> None:
    assert (CHECKED_IN / f"{plural}.yaml").read_text() == to_yaml(CRDS[plural]()), "run: make generate"


def _walk(node: Any, path: str = "") -> Any:
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from _walk(value, f"{path}.{key}")
    elif isinstance(node, list):
        for item in node:
            yield from _walk(item, path)


@pytest.mark.parametrize("plural", CRDS)
def test_nothing_that_a_structural_schema_forbids(plural: str) -> None:
    schema = CRDS[plural]()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, node in _walk(schema):
        if path.endswith(".properties"):
            continue
        assert not {"$ref", "anyOf", "oneOf", "const", "title", "$defs"} & node.keys(), path


def test_optional_fields_lose_null_and_blocks_default_to_empty() -> None:
    class Inner(ApiModel):
        size: int = 3

    class Outer(ApiModel):
        maybe: Annotated[int, Field(ge=1)] | None = None
        inner: Inner = Inner()

    schema = structural(Outer, bounded=True)["properties"]
    assert schema["maybe"] == {"type": "integer", "minimum": 1}
    assert schema["inner"]["default"] == {}
    assert schema["inner"]["properties"]["size"]["default"] == 3


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (str, "without max_length"),
        (list[int], "a list without max_length"),
        (dict[str, int], "a map without max_length"),
        (Annotated[str, Field(max_length=5)] | int, "a union of 2 types"),
        (Annotated[int, Field(multiple_of=3)], "multipleOf"),
        (Any, "no type"),
    ],
)
def test_what_has_no_form_names_the_field(annotation: Any, words: str) -> None:
    broken = type("Broken", (ApiModel,), {"__annotations__": {"some_field": annotation}})
    with pytest.raises(CrdError, match=r"Broken\.someField") as caught:
        structural(broken, bounded=True)
    assert words in str(caught.value)
