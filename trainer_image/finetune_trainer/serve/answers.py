"""The parts of vLLM's answers that are read here. Unknown fields are its own business."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    @property
    def ended(self) -> str | None:
        """Why the answer ended: stop, length, abort, error …; None where that is not said."""
        return None


class Model(Answer):
    id: str
    max_model_len: int | None = None


class Models(Answer):
    data: list[Model]


class Tokens(Answer):
    tokens: list[int]


class PromptLogprob(Answer):
    logprob: float | None = None
    """None, or not finite: what some servers write for NaN."""


class Logprobs(Answer):
    token_logprobs: list[float | None] = []


class Choice(Answer):
    text: str
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    token_ids: list[int] | None = None
    prompt_logprobs: list[dict[int, PromptLogprob] | None] | None = None


class Completion(Answer):
    choices: list[Choice] = Field(min_length=1)

    @property
    def choice(self) -> Choice:
        return self.choices[0]

    @property
    def ended(self) -> str | None:
        return self.choice.finish_reason


class Message(Answer):
    content: str | None = None


class ChatChoice(Answer):
    message: Message
    finish_reason: str | None = None


class ChatCompletion(Answer):
    choices: list[ChatChoice] = Field(min_length=1)

    @property
    def ended(self) -> str | None:
        return self.choices[0].finish_reason

    @property
    def text(self) -> str:
        return self.choices[0].message.content or ""
