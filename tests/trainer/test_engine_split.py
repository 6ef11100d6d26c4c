"""Phases add up; on a GPU a step is told once its marks have passed, and nobody waits for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from finetune_trainer.engine.split import Phase, Split


def ticking(*moments: float) -> Iterator[float]:
    return iter(moments)


def test_each_phase_ends_where_the_next_begins_and_repeated_ones_add_up() -> None:
    moments = ticking(0.0, 1.0, 3.0, 4.0, 9.0, 10.0)
    split = Split(cuda=False, clock=lambda: next(moments))
    for phase in (Phase.DATA, Phase.FORWARD, Phase.DATA, Phase.FORWARD, Phase.OPTIMIZER):
        split.enter(phase)
    assert split.end() == {Phase.DATA: 2.0, Phase.FORWARD: 7.0, Phase.OPTIMIZER: 1.0}


def test_a_step_knows_nothing_of_the_one_before() -> None:
    moments = ticking(0.0, 1.0, 5.0, 7.0)
    split = Split(cuda=False, clock=lambda: next(moments))
    split.enter(Phase.FORWARD)
    assert split.end() == {Phase.FORWARD: 1.0}
    split.enter(Phase.BACKWARD)
    assert split.end() == {Phase.BACKWARD: 2.0}


class Stream:
    """Of a device that passes marks when it gets there."""

    def __init__(self) -> None:
        self.now, self.reached = 0.0, 0.0

    def mark(self) -> StreamMark:
        self.now += 1.0
        return StreamMark(self, self.now)


class StreamMark:
    def __init__(self, stream: Stream, at: float) -> None:
        self._stream, self._at = stream, at

    def passed(self) -> bool:
        return self._at <= self._stream.reached

    def until(self, later: StreamMark) -> float:
        assert self.passed()
        assert later.passed()
        return later._at - self._at


def test_on_a_device_the_newest_step_that_is_over_is_told() -> None:
    stream = Stream()
    split = Split(cuda=True, mark=stream.mark)
    split.enter(Phase.FORWARD)
    assert split.end() == {}
    split.enter(Phase.FORWARD)
    split.enter(Phase.BACKWARD)
    stream.reached = 2.0
    assert split.end() == {Phase.FORWARD: 1.0}
    stream.reached = 5.0
    split.enter(Phase.DATA)
    assert split.end() == {Phase.FORWARD: 1.0, Phase.BACKWARD: 1.0}


@pytest.mark.parametrize("phase", list(Phase))
def test_names_are_words_for_metrics(phase: Phase) -> None:
    assert str(phase).isalpha()
