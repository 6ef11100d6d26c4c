"""The prompts of `rollout.verify`: each must be answered, and every token's log-probability must be a number.

A model whose weights broke on the way (a wrong type, an overflow) still answers something; its log-probabilities are
where it shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from finetune_api.exitcodes import ExitCode
from finetune_api.reports import clip
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError
from finetune_trainer.serve.answers import Completion
from finetune_trainer.serve.asking import Asking
from finetune_trainer.serve.engine import Engine, Refused
from finetune_trainer.serve.reasons import Reason

MAX_TOKENS = 8
DEFAULT = "Hello"
"""Asked where the spec names no prompt: an engine that answers nothing at all gets no traffic."""
_SHOWN = 60


def require_answers(ask: Asking, prompts: Sequence[str]) -> int:
    """How many were asked. Raises RunError (76) naming the first prompt that was not answered well."""
    for index, prompt in enumerate(prompts or [DEFAULT]):
        name = f"verify.prompts[{index}]" if prompts else "the prompt"
        where = f"{name} ({clip(prompt, _SHOWN)!r})"

        def complete(engine: Engine, timeout: float, prompt: str = prompt) -> Completion:
            return engine.complete(timeout, prompt, max_tokens=MAX_TOKENS, logprobs=0)

        try:
            answer = ask(complete, tokens=MAX_TOKENS)
        except Refused as error:
            raise failed(f"{where}: {ask.who} {error}") from None
        problem = _problem(answer)
        if problem:
            raise failed(f"{where}: {ask.who} {problem}")
        log.event("prompt answered", prompt=where, answer=clip(answer.choice.text, 200), ended=answer.ended)
    return len(prompts) or 1


def failed(words: str, reason: Reason = Reason.VERIFY_FAILED) -> RunError:
    return RunError(ExitCode.GATE_FAILED, f"{words}; this revision gets no traffic", reason=reason)


def _problem(answer: Completion) -> str | None:
    logprobs = answer.choice.logprobs.token_logprobs if answer.choice.logprobs else []
    if not logprobs:
        return "answered without a single token"
    bad = next((value for value in logprobs if value is None or not math.isfinite(value)), 0.0)
    if bad is None or not math.isfinite(bad):
        return f"gave a token of its answer the log-probability {bad}; its weights are broken"
    return None
