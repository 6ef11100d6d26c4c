"""What a trainer's own model says about fixed prompts, published with the model as `served-check.json`.

The serving image must give the same log-probabilities: publish asks it once before the upload, a rollout asks each
candidate before it gets traffic. The prompts are the same for every model and hold nothing of anybody's data.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from finetune_api.base import WireModel

SERVED_CHECK = "served-check.json"
"""Path of the `ServedReference` in the published folder; the manifest names it like every other file."""
SERVED_METRIC = "servedCheck"
"""Name of the check's line among the gate's results."""

Logprob = Annotated[float, Field(allow_inf_nan=False)]
"""In nats."""
Tokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=4096)]


class ChatMessage(WireModel):
    role: Literal["system", "user", "assistant"]
    content: str


class ReferencePrompt(WireModel):
    """Made from `text` (special tokens added as the tokenizer does by default) or from `messages` (by the chat
    template, with the generation prompt); `token_ids` may be cut at the end."""

    text: str | None = None
    messages: list[ChatMessage] | None = None
    token_ids: Annotated[Tokens, Field(min_length=2)]
    logprobs: list[Logprob]
    """`logprobs[i]` is ln p(token_ids[i + 1] | token_ids[: i + 1]): one shorter than `token_ids`."""
    continuation: Tokens = []
    """What the trainer's model writes greedily; ends early after an end-of-sequence token, which is included."""
    continuation_logprobs: list[Logprob] = []
    """Of each token of `continuation`."""

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if len(self.logprobs) != len(self.token_ids) - 1:
            raise ValueError(f"{len(self.token_ids)} tokens need {len(self.token_ids) - 1} logprobs")
        if len(self.continuation_logprobs) != len(self.continuation):
            raise ValueError(f"{len(self.continuation)} written tokens have {len(self.continuation_logprobs)} logprobs")
        return self


class ServedReference(WireModel):
    """`served-check.json`. The logprobs are of the published weights, computed in float32 by transformers."""

    format: int = 1
    prompts: Annotated[list[ReferencePrompt], Field(min_length=1, max_length=64)]
    transformers: str = ""
    """The trainer's version."""


class ServedAnswer(WireModel):
    """An engine's answer to one `ReferencePrompt.token_ids`, decoded greedily; same meaning of the fields."""

    logprobs: list[Logprob]
    continuation: Tokens = []
    continuation_logprobs: list[Logprob] = []
    token_ids: Tokens | None = None
    """What the engine's own tokenizer makes of `text` or `messages`, uncut; None: not asked."""


class ServedResult(WireModel):
    """How the published folder did in the serving image; part of the model's manifest."""

    passed: bool
    message: str
    engine: str
    """`vllm 0.32.0`."""
    image: str
    dtype: str
    """What the engine computed in; `unknown` when it did not start."""
    tokens: int = 0
    mean_logprob_delta: Logprob | None = None
    max_logprob_delta: Logprob | None = None
