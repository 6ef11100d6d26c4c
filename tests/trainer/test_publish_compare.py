"""Two implementations side by side: what is counted, what decides, and what a near tie must not do."""

import pytest

from finetune_api.served import ServedAnswer
from finetune_trainer.publish.compare import compare, default_limit
from tests.trainer.answers import equal, reference


def changed(index: int, **fields: object) -> list[ServedAnswer]:
    answers = equal()
    answers[index] = answers[index].model_copy(update=fields)
    return answers


def test_equal_answers_differ_by_nothing() -> None:
    found = compare(reference(), equal())
    assert (found.tokens, found.mean, found.max) == (11, 0.0, 0.0)
    assert (found.agreeing, found.prompts, found.retokenized) == (2, 2, None)


def test_the_mean_is_over_all_tokens_and_the_worst_is_named() -> None:
    found = compare(reference(), changed(1, logprobs=[-3.0, -0.25, -2.325, -4.0]))
    assert found.mean == pytest.approx(2.2 / 11)
    assert found.max == pytest.approx(2.2)
    assert found.worst == "chat 'And you?'"


def test_a_near_tie_costs_nothing_and_ends_the_comparison_of_what_was_written() -> None:
    """Another token with nearly the same probability: what follows it cannot be compared."""
    found = compare(reference(), changed(0, continuation=[77, 10], continuation_logprobs=[-0.101, -7.0]))
    assert found.tokens == 10
    assert found.max == pytest.approx(0.001)
    assert found.agreeing == 1


def test_a_wrong_decode_is_counted() -> None:
    """A prompt computed well and then other tokens: the cache of keys and values, for example."""
    found = compare(reference(), changed(0, continuation=[77, 10], continuation_logprobs=[-5.1, -0.2]))
    assert found.max == pytest.approx(5.0)


def test_an_engine_that_writes_on_after_the_end_still_agrees() -> None:
    longer = changed(0, continuation=[9, 10, 1, 1], continuation_logprobs=[-0.1, -0.2, -9.0, -9.0])
    found = compare(reference(), longer)
    assert (found.tokens, found.agreeing) == (11, 2)


def test_a_tokenizer_that_cuts_otherwise_is_told_with_the_place() -> None:
    found = compare(reference(), changed(0, token_ids=[5, 6, 99, 8, 1]))
    assert found.retokenized == (
        "prompt 'Hello there' is tokenized differently from token 3 on: [99, 8], the trainer has [7, 8]"
    )


def test_the_reference_may_have_been_cut_but_the_engine_may_not_stop_early() -> None:
    assert compare(reference(), changed(0, token_ids=[5, 6, 7, 8, 9, 10])).retokenized is None
    early = compare(reference(), changed(0, token_ids=[5, 6, 7])).retokenized
    assert early is not None
    assert "from token 4 on: [], the trainer has [8]" in early


def test_tokens_that_nobody_asked_for_are_not_compared() -> None:
    assert compare(reference(), changed(0, token_ids=None)).retokenized is None


def test_answers_to_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="1 answers to 2 prompts"):
        compare(reference(), equal()[:1])
    with pytest.raises(ValueError, match="2 logprobs for the 4 tokens of prompt 'Hello there', expected 3"):
        compare(reference(), changed(0, logprobs=[-1.0, -2.0]))


def test_sixteen_bits_are_allowed_more_than_float32() -> None:
    assert (default_limit("float32"), default_limit("bfloat16"), default_limit("unknown")) == ("0.01", "0.1", "0.1")
