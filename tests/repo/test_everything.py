"""`make test` runs its stages in order, one of them beside the others, and says of each what became of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from e2e.everything import Stage, run_all, summary

PASSES = (sys.executable, "-c", "print('3 passed, 1 skipped in 0.1s')")
FAILS = (sys.executable, "-c", "import sys; print('2 passed, 1 failed'); sys.exit(1)")


def waits_for(path: Path) -> tuple[str, ...]:
    code = f"import pathlib, time\nwhile not pathlib.Path({str(path)!r}).exists(): time.sleep(0.01)\nprint(5, 'passed')"
    return (sys.executable, "-c", code)


def test_a_stage_beside_ends_after_those_that_it_waits_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "made"
    makes = (sys.executable, "-c", f"open({str(made)!r}, 'w').close(); print('1 passed')")
    done = run_all([Stage("slow", waits_for(made), beside=True), Stage("quick", makes)])
    assert [(stage.name, stage.counts, stage.note) for stage in done] == [
        ("slow", {"passed": 5}, ""),
        ("quick", {"passed": 1}, ""),
    ]
    told = capfd.readouterr().out
    assert told.index("=== quick") < told.index("5 passed")


@pytest.mark.parametrize("beside", [True, False])
def test_a_failure_is_said_wherever_it_happens(beside: bool) -> None:
    done = run_all([Stage("first", FAILS, beside=beside), Stage("second", PASSES)])
    assert done[0].note.startswith("FAILED after")
    assert done[0].counts == {"passed": 2, "failed": 1}
    assert len(done) == (2 if beside else 1)


def test_what_runs_beside_is_stopped_when_another_stage_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    done = run_all([Stage("slow", waits_for(tmp_path / "never"), beside=True), Stage("quick", FAILS)])
    assert time.monotonic() - began < 30
    assert done[0].note == "stopped: another stage failed"
    summary(done)
    assert "stopped: another stage failed" in capfd.readouterr().out


def test_what_the_machine_does_not_allow_is_named() -> None:
    (stage,) = run_all([Stage("cluster", FAILS, lambda: "it needs root")])
    assert stage.note == "skipped: it needs root"
