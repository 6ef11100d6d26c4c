"""The serving image's answer, and what it is worth: one more line of the gate, with its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from finetune_api.base import WireModel
from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import GateResult
from finetune_api.served import SERVED_CHECK, SERVED_METRIC, ServedAnswer, ServedReference, ServedResult
from finetune_trainer.common.errors import RunError
from finetune_trainer.publish.compare import Comparison, compare, default_limit

Text = Annotated[str, Field(max_length=1024)]


class EngineAnswer(WireModel):
    """`served.json` of `served_engine.py`: answers, the error the model is to blame for, or why there are none."""

    format: int = 1
    engine: Text
    dtype: Text = "unknown"
    seconds: float | None = None
    answers: list[ServedAnswer] = []
    error: Text | None = None
    skipped: Text | None = None
    """Why the engine could not even be started here."""


def take_answer(path: Path) -> EngineAnswer:
    """Raises RunError (70) when the container before left none."""
    try:
        return EngineAnswer.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(
            ExitCode.FAILED,
            f"the served check left no usable answer at {path} ({type(error).__name__}); see the log of the container "
            "served-check",
            reason="ServedCheckFailed",
        ) from None


def read_reference(folder: Path) -> ServedReference:
    return ServedReference.model_validate_json((folder / SERVED_CHECK).read_bytes())


def judge(reference: ServedReference, answer: EngineAnswer, *, image: str, limit: str | None) -> ServedResult:
    """`limit` None: by what the engine computes in."""
    about = {"engine": answer.engine, "image": image, "dtype": answer.dtype}
    if answer.error is not None:
        return ServedResult(
            passed=False,
            message=f"served check: {answer.engine} could not serve the model: {answer.error}",
            **about,
        )
    try:
        found = compare(reference, answer.answers)
    except ValueError as error:
        return ServedResult(
            passed=False, message=f"served check: {answer.engine} answered something else: {error}", **about
        )
    allowed = limit or default_limit(answer.dtype)
    return ServedResult(
        passed=found.retokenized is None and found.mean <= float(allowed),
        message=_in_words(found, answer, allowed),
        tokens=found.tokens,
        mean_logprob_delta=found.mean,
        max_logprob_delta=found.max,
        **about,
    )


def gate_line(result: ServedResult) -> GateResult:
    return GateResult(metric=SERVED_METRIC, passed=result.passed, message=result.message)


def _in_words(found: Comparison, answer: EngineAnswer, allowed: str) -> str:
    sign = "<=" if found.mean <= float(allowed) else ">"
    words = (
        f"served check: mean |logprob delta| {found.mean:.2g} {sign} {allowed} over {found.tokens} tokens "
        f"(max {found.max:.2g} in {found.worst}), {found.agreeing} of {found.prompts} greedy answers equal the "
        f"trainer's ({answer.engine}, {answer.dtype})"
    )
    return words if found.retokenized is None else f"{words}; {found.retokenized}"
