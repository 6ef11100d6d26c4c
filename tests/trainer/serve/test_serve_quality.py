"""Scores are shares of right answers, verdicts are in words with values and sample sizes."""

import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from finetune_api.serveconfig import QualityCheck
from finetune_trainer.common.errors import RunError
from finetune_trainer.serve.asking import Asking
from finetune_trainer.serve.engine import Engine
from finetune_trainer.serve.patience import Patience
from finetune_trainer.serve.quality import CONCURRENCY, Score, judge, matches, score
from finetune_trainer.serve.questions import Question
from tests.trainer.serve.fake_engine import FakeEngine, says, serving

QUESTIONS = [Question(f"ask {n}:", (), str(n)) for n in range(32)]


def number(prompt: str) -> str:
    return prompt.removeprefix("ask ").removesuffix(":")


def even(prompt: str) -> str:
    return number(prompt) if int(number(prompt)) % 2 == 0 else "no idea"


def asking(fake: FakeEngine, *, candidate: bool = True, seconds: float = 60) -> Asking:
    patience = Patience(seconds, first=0.001, longest=0.01)
    return Asking(Engine(fake.url, fake.name), patience, candidate=candidate)


def check(**fields: Any) -> QualityCheck:
    return QualityCheck.model_validate(
        {"data": {"uri": "s3://team-a/held-out.jsonl"}, "metric": "exactMatch", "minDelta": "-0.02", **fields}
    )


def test_both_are_asked_the_same_questions_a_few_at_a_time() -> None:
    together = threading.Barrier(CONCURRENCY, timeout=60)

    def patient(prompt: str) -> str:
        together.wait()
        return even(prompt)

    with serving(FakeEngine(answer=patient)) as ours, serving(FakeEngine(name="old", answer=number)) as theirs:
        candidate, stable = score(QUESTIONS, asking(ours), asking(theirs, candidate=False), 16)
    assert stable is not None
    assert (candidate.share, stable.share, candidate.asked, stable.asked) == (0.5, 1.0, 32, 32)
    assert ours.most_at_once == CONCURRENCY
    assert sorted(b["prompt"] for _, b in ours.asked) == sorted(b["prompt"] for _, b in theirs.asked)
    assert {b["max_tokens"] for _, b in ours.asked} == {16}


def test_conversations_are_rendered_by_the_engine() -> None:
    question = Question("", (("system", "Be brief."), ("user", "Hi")), "<system>Be brief.<user>Hi<assistant>")
    with serving(FakeEngine(answer=lambda prompt: f" {prompt}\n")) as fake:
        found, none = score([question], asking(fake), None, 16)
    assert (found.right, none) == (1, None)
    assert fake.asked[0][0] == "/v1/chat/completions"


def test_a_refused_question_counts_as_wrong_and_is_said() -> None:
    questions = [*QUESTIONS[:3], Question("ask 7:" + " " * 500, (), "7")]
    with serving(FakeEngine(answer=number)) as fake:
        found, _ = score(questions, asking(fake), None, 16)
    assert (found.asked, found.right, found.refused) == (4, 3, 1)
    result = judge(check(min="0.7"), found, None)
    assert result.passed
    assert "1 refused by the candidate: answered /v1/completions with HTTP 400: This model's maximum" in result.message


def broken(handler: BaseHTTPRequestHandler) -> None:
    says(500, b'{"error": {"message": "EngineCore died"}}')(handler)


@pytest.mark.parametrize(
    ("candidate", "code", "reason"), [(True, 76, "VerifyFailed"), (False, 69, "StableUnreachable")]
)
def test_an_engine_that_breaks_ends_the_scoring(candidate: bool, code: int, reason: str) -> None:
    with serving(FakeEngine(answer=number)) as good, serving(FakeEngine(answer=number, always=broken)) as bad:
        ours, theirs = (bad, good) if candidate else (good, bad)
        with pytest.raises(RunError, match="EngineCore died") as error:
            score(QUESTIONS, asking(ours), asking(theirs, candidate=False), 16)
    assert (error.value.code, error.value.reason) == (code, reason)
    assert len(bad.asked) < 4 * len(QUESTIONS)


def of(right: int, asked: int = 64, **fields: Any) -> Score:
    return Score(asked=asked, right=right, **fields)


@pytest.mark.parametrize(
    ("candidate", "stable", "fields", "passed", "words"),
    [
        (20, 64, {}, False, "exactMatch 0.31 of 64 on the candidate, 1.00 on stable: -0.69, allowed -0.02"),
        (63, 64, {}, True, "exactMatch 0.98 of 64 on the candidate, 1.00 on stable: -0.02, allowed -0.02"),
        (62, 64, {}, False, "-0.03, allowed -0.02"),
        (64, 64, {"minDelta": "0"}, True, "+0.00, allowed +0.00"),
        (63, 64, {"minDelta": "0"}, False, "-0.02, allowed +0.00"),
        (60, 50, {"min": "0.95"}, False, "+0.16, allowed -0.02; less than min 0.95"),
        (62, 64, {"minDelta": "-0.1", "min": "0.9"}, True, "; at least min 0.9"),
        (10, None, {}, True, "there is no stable revision and no min"),
        (10, None, {"min": "0.9"}, False, "exactMatch 0.16 of 64 on the candidate; less than min 0.9"),
    ],
)
def test_the_verdict_in_words(
    candidate: int, stable: int | None, fields: dict[str, str], passed: bool, words: str
) -> None:
    result = judge(check(**fields), of(candidate), None if stable is None else of(stable))
    assert result.passed is passed
    assert words in result.message
    assert (result.samples, result.candidate) == (64, candidate / 64)


def test_equal_shares_are_equal_whatever_their_fractions() -> None:
    assert judge(check(minDelta="-0.1"), of(6, 10), of(7, 10)).passed


def test_a_candidate_that_refuses_everything_has_shown_nothing() -> None:
    result = judge(check(), of(0, refused=64, refusal="no template"), of(0, refused=64, refusal="no template"))
    assert not result.passed


@pytest.mark.parametrize(
    ("answered", "right"),
    [
        ("4", True),
        ("\n 4 ", True),
        ("<think>\n\n</think>\n\n4", True),
        ("<think>two and two", False),
        ("4.", False),
        ("", False),
        ("four </think> 4", False),
    ],
)
def test_what_counts_as_the_expected_answer(answered: str, right: bool) -> None:
    assert matches("4", answered) is right


def test_an_expected_reasoning_block_must_be_there() -> None:
    assert matches("<think>a</think>4", "<think>a</think>4")
    assert not matches("<think>a</think>4", "4")
