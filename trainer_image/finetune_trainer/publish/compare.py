"""An engine's log-probabilities beside the trainer's. Pure, no torch: publish asks it, and every rollout again.

The mean difference per token decides: in sixteen bits a single rare token may be far off while nothing is wrong. A
greedy continuation is compared up to the first token that differs, and there, too: two tokens of nearly equal
probability may change places, but then their log-probabilities are nearly equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finetune_api.served import ReferencePrompt, ServedAnswer, ServedReference

DEFAULT_LIMITS = {"float32": "0.01"}
_DEFAULT_LIMIT = "0.1"
_SHOWN = 40


@dataclass(frozen=True)
class Comparison:
    tokens: int
    mean: float
    max: float
    worst: str
    """The prompt that holds the token with the largest difference, as a person may recognise it."""
    prompts: int
    agreeing: int
    """Prompts whose greedy continuation is the trainer's, token by token."""
    retokenized: str | None
    """In words: the first prompt that the engine's tokenizer cuts into other tokens."""


def default_limit(dtype: str) -> str:
    """By what the engine computes in; the trainer's own numbers are float32."""
    return DEFAULT_LIMITS.get(dtype, _DEFAULT_LIMIT)


def compare(reference: ServedReference, answers: Sequence[ServedAnswer]) -> Comparison:
    """Raises ValueError when the answers are not to these prompts."""
    if len(answers) != len(reference.prompts):
        raise ValueError(f"{len(answers)} answers to {len(reference.prompts)} prompts")
    total, tokens, largest, worst = 0.0, 0, 0.0, reference.prompts[0]
    agreeing = 0
    for prompt, answer in zip(reference.prompts, answers, strict=True):
        if len(answer.logprobs) != len(prompt.logprobs):
            raise ValueError(
                f"{len(answer.logprobs)} logprobs for the {len(prompt.token_ids)} tokens of {_shown(prompt)}, "
                f"expected {len(prompt.logprobs)}"
            )
        for delta in _deltas(prompt, answer):
            total += delta
            tokens += 1
            if delta > largest:
                largest, worst = delta, prompt
        agreeing += _agree(prompt, answer)
    mean = total / tokens if tokens else math.inf
    return Comparison(
        tokens, mean, largest, _shown(worst), len(reference.prompts), agreeing, _retokenized(reference, answers)
    )


def _deltas(prompt: ReferencePrompt, answer: ServedAnswer) -> Iterator[float]:
    for ours, theirs in zip(prompt.logprobs, answer.logprobs, strict=True):
        yield abs(ours - theirs)
    written = zip(
        prompt.continuation,
        answer.continuation,
        prompt.continuation_logprobs,
        answer.continuation_logprobs,
        strict=False,
    )
    for our_token, their_token, ours, theirs in written:
        yield abs(ours - theirs)
        if our_token != their_token:
            return


def _agree(prompt: ReferencePrompt, answer: ServedAnswer) -> bool:
    length = min(len(prompt.continuation), len(answer.continuation))
    return prompt.continuation[:length] == answer.continuation[:length]


def _retokenized(reference: ServedReference, answers: Sequence[ServedAnswer]) -> str | None:
    for prompt, answer in zip(reference.prompts, answers, strict=True):
        if answer.token_ids is None:
            continue
        ours, theirs = prompt.token_ids, answer.token_ids[: len(prompt.token_ids)]
        if ours != theirs:
            place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), len(theirs))
            return (
                f"{_shown(prompt)} is tokenized differently from token {place + 1} on: "
                f"{theirs[place : place + 4]}, the trainer has {ours[place : place + 4]}"
            )
    return None


def _shown(prompt: ReferencePrompt) -> str:
    text = prompt.text if prompt.text is not None else (prompt.messages[-1].content if prompt.messages else "")
    kind = "prompt" if prompt.text is not None else "chat"
    return f"{kind} {text[:_SHOWN]!r}"
