"""What may pass is waited for, what repeats is a verdict, and only the candidate is judged."""

import threading
from collections.abc import Callable

import pytest

from finetune_trainer.common.errors import RunError
from finetune_trainer.serve.asking import BROKEN_TRIES, SILENT_TRIES, Asking
from finetune_trainer.serve.engine import Away, Broken, Engine, EngineError, Refused, Silent
from finetune_trainer.serve.patience import Patience

ENGINE = Engine("http://candidate.team-a.svc", "support")


class Script:
    """Raises what it is given, one per question, then answers."""

    def __init__(self, *errors: EngineError) -> None:
        self.errors, self.asked, self.timeouts = list(errors), 0, []

    timeouts: list[float]

    def __call__(self, engine: Engine, timeout: float) -> str:
        self.asked += 1
        self.timeouts.append(timeout)
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def asking(*, candidate: bool = True, seconds: float = 60) -> Asking:
    return Asking(ENGINE, Patience(seconds, first=0.0001, longest=0.001), candidate=candidate)


def test_nobody_there_is_waited_for_as_long_as_it_takes() -> None:
    script = Script(*[Away("does not take connections")] * 50)
    assert asking()(script) == "answer"
    assert script.asked == 51


@pytest.mark.parametrize(
    ("error", "tries"),
    [(Broken("answered with HTTP 500"), BROKEN_TRIES), (Silent("did not answer"), SILENT_TRIES)],
)
def test_failures_that_repeat_are_a_verdict_on_the_candidate(error: EngineError, tries: int) -> None:
    assert asking()(Script(*[error] * (tries - 1))) == "answer"
    script = Script(*[error] * 100)
    with pytest.raises(RunError) as verdict:
        asking()(script)
    assert (verdict.value.code, verdict.value.reason, script.asked) == (76, "VerifyFailed", tries)
    assert f"http://candidate.team-a.svc {error} ({tries} times in a row)" in verdict.value.message


@pytest.mark.parametrize("error", [Broken("answered with HTTP 500"), Silent("did not answer"), Away("is away")])
def test_stable_is_never_judged(error: EngineError) -> None:
    with pytest.raises(RunError) as verdict:
        asking(candidate=False, seconds=0.01)(Script(*[error] * 10_000))
    assert (verdict.value.code, verdict.value.reason) == (69, "StableUnreachable")


def test_a_candidate_that_is_not_there_in_the_end_is_asked_again_later() -> None:
    ask = Asking(ENGINE, Patience(30, first=60, longest=60), candidate=True)
    with pytest.raises(RunError) as verdict:
        ask(Script(Away("does not take connections: Connection refused")))
    assert (verdict.value.code, verdict.value.reason) == (69, "EngineUnreachable")
    assert "Connection refused (for 30 s)" in verdict.value.message


def test_a_refusal_is_the_askers_own_affair() -> None:
    script = Script(Refused("answered with HTTP 400"))
    with pytest.raises(Refused):
        asking()(script)
    assert script.asked == 1


def slow(patience: Patience) -> Callable[[Engine, float], str]:
    def question(engine: Engine, timeout: float) -> str:
        patience.cancel()
        raise Silent("did not answer")

    return question


def test_a_check_that_does_not_end_in_time_says_what_to_do() -> None:
    ask = asking()
    with pytest.raises(RunError) as verdict:
        ask(slow(ask.patience))
    assert (verdict.value.code, verdict.value.reason) == (76, "CheckTimeout")
    assert "Lower the limit or maxTokens" in verdict.value.message
    script = Script()
    with pytest.raises(RunError, match="did not end within 60 s"):
        ask(script)
    assert script.asked == 0


def test_long_answers_get_longer_and_never_more_than_is_left() -> None:
    script = Script()
    asking(seconds=1000)(script, tokens=100)
    asking(seconds=20)(script, tokens=100)
    assert script.timeouts[0] == 80
    assert script.timeouts[1] <= 20


def test_another_threads_failure_ends_the_wait() -> None:
    ask = Asking(ENGINE, Patience(3600, first=1800, longest=1800), candidate=True)
    asked = threading.Event()
    raised: list[Exception] = []

    def question(engine: Engine, timeout: float) -> str:
        asked.set()
        raise Away("is away")

    def wait() -> None:
        try:
            ask(question)
        except RunError as error:
            raised.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert asked.wait(30)
    ask.patience.cancel()
    waiter.join(30)
    assert len(raised) == 1
