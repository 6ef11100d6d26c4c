"""From an engine's answer to one line of the gate, with its numbers in words."""

from pathlib import Path

import pytest

from finetune_trainer.common.errors import RunError
from finetune_trainer.publish.served import EngineAnswer, gate_line, judge, take_answer
from tests.trainer.answers import equal, reference


def answer(shift: float = 0.0, *, dtype: str = "float32", tokens: list[int] | None = None) -> EngineAnswer:
    answers = [a.model_copy(update={"logprobs": [p + shift for p in a.logprobs]}) for a in equal()]
    if tokens is not None:
        answers[0] = answers[0].model_copy(update={"token_ids": tokens})
    return EngineAnswer(engine="vllm 0.32.0", dtype=dtype, answers=answers)


def passes(found: EngineAnswer, limit: str | None = None) -> bool:
    return judge(reference(), found, image="vllm:1", limit=limit).passed


def test_the_words_hold_the_numbers() -> None:
    result = judge(reference(), answer(0.11), image="vllm:1", limit="0.05")
    assert not result.passed
    assert result.message == (
        "served check: mean |logprob delta| 0.07 > 0.05 over 11 tokens (max 0.11 in prompt 'Hello there'), "
        "2 of 2 greedy answers equal the trainer's (vllm 0.32.0, float32)"
    )
    assert (result.tokens, result.image, result.dtype) == (11, "vllm:1", "float32")
    assert result.mean_logprob_delta == pytest.approx(0.07)
    assert result.max_logprob_delta == pytest.approx(0.11)
    line = gate_line(result)
    assert (line.metric, line.passed, line.message) == ("servedCheck", False, result.message)


def test_without_a_limit_the_precision_sets_it() -> None:
    assert passes(answer(0.01))
    assert not passes(answer(0.02))
    assert passes(answer(0.1, dtype="bfloat16"))
    assert not passes(answer(0.2, dtype="bfloat16"))
    assert passes(answer(0.2), limit="0.5")
    assert not passes(answer(0.001), limit="0")


def test_another_tokenization_fails_however_equal_the_numbers_are() -> None:
    result = judge(reference(), answer(tokens=[5, 6, 7, 9]), image="vllm:1", limit="10")
    assert not result.passed
    assert result.message.endswith(
        "; prompt 'Hello there' is tokenized differently from token 4 on: [9], the trainer has [8]"
    )


def test_a_model_that_the_engine_cannot_load_fails_in_the_engines_words() -> None:
    found = EngineAnswer(engine="vllm 0.32.0", error="ValidationError: architectures ['X'] are not supported")
    result = judge(reference(), found, image="vllm:1", limit=None)
    assert not result.passed
    assert result.message == (
        "served check: vllm 0.32.0 could not serve the model: ValidationError: architectures ['X'] are not supported"
    )
    assert (result.tokens, result.mean_logprob_delta) == (0, None)


def test_answers_to_something_else_fail() -> None:
    found = EngineAnswer(engine="vllm 0.32.0", dtype="float32", answers=equal()[:1])
    assert (
        "answered something else: 1 answers to 2 prompts"
        in judge(reference(), found, image="vllm:1", limit=None).message
    )


@pytest.mark.parametrize("content", [None, b"{", b'{"engine": "v", "answers": [{"logprobs": [NaN]}]}'])
def test_an_answer_that_is_none_is_not_the_models_fault(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "served.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match="see the log of the container served-check") as caught:
        take_answer(path)
    assert caught.value.reason == "ServedCheckFailed"
