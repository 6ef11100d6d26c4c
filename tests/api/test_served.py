"""The reference that travels with a model: lengths that belong together, numbers that exist."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from finetune_api.served import ReferencePrompt, ServedReference

PROMPT: dict[str, Any] = {
    "text": "Hello",
    "tokenIds": [1, 2, 3],
    "logprobs": [-0.5, -1.25],
    "continuation": [7],
    "continuationLogprobs": [-0.1],
}


def test_it_reads_what_it_writes() -> None:
    reference = ServedReference(prompts=[ReferencePrompt.model_validate(PROMPT)], transformers="5.23.0")
    wire = reference.model_dump_json(by_alias=True, exclude_none=True)
    assert ServedReference.model_validate_json(wire) == reference
    assert reference.to_wire()["prompts"][0] == PROMPT


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logprobs": [-0.5]}, "3 tokens need 2 logprobs"),
        ({"logprobs": [-0.5, float("nan")]}, "finite number"),
        ({"continuationLogprobs": []}, "1 written tokens have 0 logprobs"),
        ({"tokenIds": [1], "logprobs": []}, "at least 2 items"),
        ({"tokenIds": [1, 2, -3]}, "greater than or equal to 0"),
    ],
)
def test_what_does_not_belong_together_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ReferencePrompt.model_validate(PROMPT | change)
