"""A reference for the served check and answers to it, made up: no model behind them."""

from __future__ import annotations

from finetune_api.served import ChatMessage, ReferencePrompt, ServedAnswer, ServedReference


def reference() -> ServedReference:
    """11 numbers: 3 + 2 of the first prompt's, 4 + 2 of the second's."""
    return ServedReference(
        prompts=[
            ReferencePrompt(
                text="Hello there",
                token_ids=[5, 6, 7, 8],
                logprobs=[-1.0, -2.0, -0.5],
                continuation=[9, 10],
                continuation_logprobs=[-0.1, -0.2],
            ),
            ReferencePrompt(
                messages=[ChatMessage(role="user", content="And you?")],
                token_ids=[1, 6, 2, 3, 4],
                logprobs=[-3.0, -0.25, -0.125, -4.0],
                continuation=[11, 12],
                continuation_logprobs=[-0.3, -0.4],
            ),
        ],
        transformers="5.0",
    )


def equal(made: ServedReference | None = None) -> list[ServedAnswer]:
    """What an engine answers that computes exactly the same."""
    return [
        ServedAnswer(
            logprobs=prompt.logprobs,
            continuation=prompt.continuation,
            continuation_logprobs=prompt.continuation_logprobs,
            token_ids=prompt.token_ids,
        )
        for prompt in (made or reference()).prompts
    ]
