"""exactMatch of the same questions on the candidate and on stable, and whether the difference is allowed.

Greedy answers of what is served, sampling defaults of the model aside from temperature, as publish measures them. A
question that an engine refuses (a prompt longer than its context) counts as answered wrongly, and is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from finetune_api.reports import clip
from finetune_api.serveconfig import QualityCheck, QualityResult
from finetune_trainer.common import log
from finetune_trainer.serve.asking import Asking
from finetune_trainer.serve.engine import Engine, Refused
from finetune_trainer.serve.questions import Question

CONCURRENCY = 8
_THINK, _THOUGHT = "<think>", "</think>"
_ROUNDING = 1e-9
_EVERY = 16
_WORDS = 300
"""Of each of at most four results: a termination message has 4 KiB in all."""


@dataclass
class Score:
    asked: int = 0
    right: int = 0
    refused: int = 0
    refusal: str = ""
    """The first one, in the engine's words."""
    wrong: list[tuple[str, str]] = field(default_factory=list)
    """The first few: (expected, answered). For the pod's log, when the check fails."""

    @property
    def share(self) -> float:
        return self.right / self.asked


@dataclass(frozen=True)
class _Reply:
    text: str | None
    refusal: str = ""


def score(
    questions: Sequence[Question], candidate: Asking, stable: Asking | None, max_tokens: int
) -> tuple[Score, Score | None]:
    """Raises RunError as `Asking` does: 76 for the candidate's own failures, 69 for what may pass."""
    ours, theirs = Score(), Score() if stable else None

    def one(question: Question) -> tuple[Question, _Reply, _Reply | None]:
        return (
            question,
            _reply(candidate, question, max_tokens),
            (_reply(stable, question, max_tokens) if stable else None),
        )

    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="quality") as pool:
        futures: list[Future[tuple[Question, _Reply, _Reply | None]]] = [pool.submit(one, q) for q in questions]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                question, mine, other = future.result()
                _count(ours, question, mine)
                if theirs is not None and other is not None:
                    _count(theirs, question, other)
                if done % _EVERY == 0:
                    log.event("questions asked", done=done, of=len(questions))
        except BaseException:
            candidate.patience.cancel()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return ours, theirs


def judge(check: QualityCheck, candidate: Score, stable: Score | None) -> QualityResult:
    """The verdict in words, with values and sample sizes."""
    metric = check.metric.value
    words = f"{metric} {candidate.share:.2f} of {candidate.asked} on the candidate"
    passed = candidate.refused < candidate.asked
    if stable is not None:
        delta = candidate.share - stable.share
        allowed = float(check.min_delta)
        passed = passed and delta >= allowed - _ROUNDING
        words += f", {stable.share:.2f} on stable: {delta:+.2f}, allowed {allowed:+.2f}"
    if check.min is not None:
        enough = candidate.share >= float(check.min) - _ROUNDING
        passed = passed and enough
        words += f"; {'at least' if enough else 'less than'} min {check.min}"
    if stable is None and check.min is None:
        words += "; there is no stable revision and no min to hold it against"
    for who, found in (("the candidate", candidate), ("stable", stable)):
        if found is not None and found.refused:
            words += f"; {found.refused} refused by {who}: {found.refusal}"
    return QualityResult(
        metric=metric,
        data=clip(check.data.uri, 120),
        candidate=candidate.share,
        stable=stable.share if stable else None,
        samples=candidate.asked,
        passed=passed,
        message=clip(words, _WORDS),
    )


def show_wrong(found: Score) -> None:
    for expected, answered in found.wrong:
        log.event("an answer that does not match", expected=clip(expected, 200), answered=clip(answered, 200))


def spoken(text: str) -> str:
    """Without a leading block of reasoning, which templates write but records leave out."""
    text = text.strip()
    if text.startswith(_THINK):
        _, found, rest = text.partition(_THOUGHT)
        return rest.strip() if found else text
    return text


def matches(expected: str, answered: str) -> bool:
    """White space at the ends aside."""
    return answered.strip() == expected or spoken(answered) == expected


def _reply(ask: Asking, question: Question, max_tokens: int) -> _Reply:
    def put(engine: Engine, timeout: float) -> str:
        if question.messages:
            messages = [{"role": role, "content": content} for role, content in question.messages]
            return engine.chat(timeout, messages, max_tokens=max_tokens).text
        return engine.complete(timeout, question.prompt, max_tokens=max_tokens).choice.text

    try:
        return _Reply(ask(put, tokens=max_tokens))
    except Refused as error:
        return _Reply(None, str(error))


def _count(found: Score, question: Question, reply: _Reply) -> None:
    found.asked += 1
    if reply.text is None:
        found.refused += 1
        found.refusal = found.refusal or clip(reply.refusal, 160)
    elif matches(question.expected, reply.text):
        found.right += 1
    elif len(found.wrong) < 3:
        found.wrong.append((question.expected, reply.text))
