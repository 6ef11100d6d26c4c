import pytest

from finetune_operator.shell.pace import Pace


def paced(runs: int, seconds: float, *, places: int = 4) -> Pace:
    pace = Pace(15.0, runs=lambda: runs, places=places)
    for _ in range(100):
        pace.wrote(seconds)
    return pace


@pytest.mark.parametrize(
    ("runs", "seconds", "interval"),
    [
        (1, 0.01, 15.0),  # one run never writes more often than asked for
        (1000, 0.02, 15.0),  # 1,000 writes of 20 ms fit
        (1000, 0.06, 30.0),  # a slow API server: half of four places is 33 writes a second
        (1000, 0.24, 120.0),  # never more rarely than eight times the interval
        (10, 0.24, 15.0),  # few runs may write however slow it is
    ],
)
def test_many_runs_and_slow_writes_stretch_the_interval(runs: int, seconds: float, interval: float) -> None:
    assert paced(runs, seconds).seconds() == pytest.approx(interval, abs=1.0)


def test_before_anything_was_written_it_is_the_installations() -> None:
    assert Pace(15.0, runs=lambda: 10_000, places=4).seconds() == 15.0


def test_one_slow_write_is_no_reason_and_a_fast_server_is_believed_again() -> None:
    pace = paced(1000, 0.02)
    pace.wrote(0.1)
    assert pace.seconds() == 15.0
    for _ in range(30):
        pace.wrote(0.2)
    assert pace.seconds() > 60
    for _ in range(60):
        pace.wrote(0.01)
    assert pace.seconds() == 15.0


def test_more_runs_are_taken_into_account_at_once() -> None:
    runs = [10]
    pace = Pace(15.0, runs=lambda: runs[0], places=4)
    for _ in range(100):
        pace.wrote(0.06)
    assert pace.seconds() == 15.0
    runs[0] = 2000
    assert pace.seconds() == 60.0
