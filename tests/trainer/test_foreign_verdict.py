"""How a custom script's ending is read."""

from __future__ import annotations

import pytest

from finetune_trainer.foreign.verdict import Ended, last_traceback, verdict

TRACE = 'Traceback (most recent call last):\n  File "t.py", line 3, in <module>\n    f()\n'


def judged(*ended: Ended, stopping: bool = False, told: bool = False, committed: int | None = None) -> tuple[int, str]:
    found = verdict(ended, stopping=stopping, told=told, committed=committed, step=9)
    return found.code, found.message


@pytest.mark.parametrize(
    ("tail", "code", "words"),
    [
        ("ValueError: no column text", 70, "rank 0 ended with exit code 1: ValueError: no column text"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", 71, "lower the batch size in trainer.custom.args"),
        ("torch.distributed.DistBackendError: NCCL error", 75, "NCCL error"),
        ("RuntimeError: CUDA error: an illegal memory access", 75, "illegal memory access"),
        ("RuntimeError: [gloo] Connection closed by peer [127.0.0.1]", 70, "lost another one"),
    ],
)
def test_the_tracebacks_last_line_names_the_class(tail: str, code: int, words: str) -> None:
    found = judged(Ended(0, 1, f"step 8\n{TRACE}{tail}\nwandb: bye\n"))
    assert found[0] == code
    assert words in found[1]


def test_a_rank_that_lost_its_peer_never_masks_the_one_that_failed() -> None:
    lost = Ended(0, 1, f"{TRACE}RuntimeError: Connection closed by peer")
    code, words = judged(lost, Ended(1, 1, f"{TRACE}KeyError: 'text'"))
    assert (code, "rank 1" in words) == (70, True)


def test_our_codes_are_believed_but_the_stops() -> None:
    assert judged(Ended(0, 66))[0] == 66
    code, words = judged(Ended(0, 85))
    assert code == 70
    assert "nobody had asked it to stop" in words


def test_a_death_without_a_word_says_so() -> None:
    assert judged(Ended(0, 3)) == (70, "rank 0 ended with exit code 3 and left no traceback; see its log")
    code, words = judged(Ended(1, -9))
    assert code == 137
    assert "out-of-memory killer" in words


@pytest.mark.parametrize(
    ("ended", "told", "committed", "code"),
    [
        ([Ended(0, 85), Ended(1, 85)], False, 7, 85),
        ([Ended(0, 85)], False, None, 86),
        ([Ended(0, 0)], False, None, 0),  # it was done before it looked
        ([Ended(0, 0)], True, None, 86),  # it took SIGTERM for its end
        ([Ended(0, -15)], True, None, 86),
        ([Ended(0, 1, f"{TRACE}ValueError: x")], False, None, 86),
        ([Ended(0, 72)], False, None, 72),
    ],
)
def test_stops(ended: list[Ended], told: bool, committed: int | None, code: int) -> None:
    assert judged(*ended, stopping=True, told=told, committed=committed)[0] == code


def test_the_last_of_several_tracebacks_is_the_one() -> None:
    text = f"{TRACE}KeyError: 'a'\n\nDuring handling of the above exception, another occurred:\n\n{TRACE}own.Broken: b\nend"
    trace, error = last_traceback(text)
    assert error == "own.Broken: b"
    assert trace is not None
    assert trace.startswith("Traceback")
    assert "KeyError" not in trace
    assert last_traceback("all is well") == (None, None)
