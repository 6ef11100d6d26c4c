"""Log lines are few and say rate and time left; a terminal gets a bar."""

import io
import logging

import pytest

from finetune_artifacts import show_progress
from finetune_artifacts.progress import LineProgress, amount


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_at_most_one_line_per_interval() -> None:
    clock, lines = Clock(), list[str]()
    line = LineProgress("download base", 100 << 20, clock=clock, log=lines.append)
    for _ in range(100):
        clock.now += 0.25
        line(1 << 20)
    assert len(lines) == 5
    assert lines[0] == "download base: 20.0 MiB of 100.0 MiB, 4.0 MiB/s, 20 s left"
    line.finish()
    assert lines[-1] == "download base: 100.0 MiB in 25.0 s, 4.0 MiB/s"


def test_unknown_total_and_no_movement() -> None:
    clock, lines = Clock(), list[str]()
    line = LineProgress("x", None, clock=clock, log=lines.append)
    clock.now += 5
    line(512)
    assert lines == ["x: 512 B, 102 B/s"]
    still = LineProgress("y", 10, clock=clock, log=lines.append)
    clock.now += 5
    still(0)
    assert lines[-1] == "y: 0 B of 10 B, 0 B/s, waiting"


def test_amounts() -> None:
    assert [amount(n) for n in (0, 1023, 1536, 1 << 30, 3 << 40)] == ["0 B", "1023 B", "1.5 KiB", "1.0 GiB", "3.0 TiB"]


def test_a_log_gets_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), show_progress("upload x", 3, stream=io.StringIO()) as report:
        report(3)
    assert [record.message.split(" in ")[0] for record in caplog.records] == ["upload x: 3 B"]


def test_a_terminal_gets_a_bar(caplog: pytest.LogCaptureFixture) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with caplog.at_level(logging.INFO), show_progress("upload x", 3, stream=stream) as report:
        report(3)
    assert "upload x" in stream.getvalue()
    assert not caplog.records
