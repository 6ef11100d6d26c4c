"""A reference is cut to what an engine has room for, and never further."""

import pytest

from finetune_api.served import ReferencePrompt, ServedReference
from finetune_trainer.serve.reference import fitting

PROMPT = ReferencePrompt(
    text="x",
    token_ids=list(range(10)),
    logprobs=[-float(n) for n in range(1, 10)],
    continuation=[50, 51, 52, 53],
    continuation_logprobs=[-0.5, -0.6, -0.7, -0.8],
)


@pytest.mark.parametrize(
    ("room", "tokens", "written"),
    [(None, 10, 4), (14, 10, 4), (13, 10, 3), (11, 10, 1), (10, 9, 0), (5, 4, 0), (2, 2, 0)],
)
def test_what_fits(room: int | None, tokens: int, written: int) -> None:
    found = fitting(ServedReference(prompts=[PROMPT]), room).prompts[0]
    assert (len(found.token_ids), len(found.continuation)) == (tokens, written)
    if room is not None and room > 2:
        assert len(found.token_ids) + max(1, len(found.continuation)) <= room
    ReferencePrompt.model_validate(found.model_dump())
    assert found.token_ids == PROMPT.token_ids[:tokens]
    assert found.logprobs == PROMPT.logprobs[: tokens - 1]
    assert found.continuation_logprobs == PROMPT.continuation_logprobs[:written]
