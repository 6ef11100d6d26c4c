"""Pauses grow, stop before the end, and can be called off from another thread."""

import threading

from finetune_trainer.serve.patience import Patience


def test_no_pause_goes_beyond_the_end() -> None:
    now = [0.0]
    patience = Patience(10, first=4, longest=100, clock=lambda: now[0])
    patience.first = 1e-6
    assert patience.pause(0)
    patience.first = 11
    assert not patience.pause(0)
    now[0] = 4
    assert patience.left == 6
    now[0] = 11
    assert patience.left == 0
    patience.first = 0
    assert not patience.pause(0)


def test_what_moves_is_waited_for_anew() -> None:
    now = [0.0]
    patience = Patience(10, clock=lambda: now[0])
    now[0] = 9
    patience.renew()
    assert patience.left == 10


def test_a_pause_is_called_off() -> None:
    patience = Patience(3600, first=1800, longest=1800)
    result: list[bool] = []
    waiter = threading.Thread(target=lambda: result.append(patience.pause(0)))
    waiter.start()
    patience.cancel()
    waiter.join(30)
    assert result == [False]
    assert patience.left == 0
