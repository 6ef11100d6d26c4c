"""Plain output: one line per step, its time first, a failure named."""

from __future__ import annotations

import re
from io import StringIO

import pytest

from e2e.tools import progress as module
from e2e.tools.progress import Progress


def test_one_line_per_step_with_its_remark() -> None:
    out = StringIO()
    progress = Progress(out)
    with progress.step("load the image") as step:
        step.note("1 MB")
        step.note("2 MB")
    assert re.fullmatch(r" +\d+\.\d s  load the image · 2 MB\n", out.getvalue())
    assert [text for text, _ in progress.times] == ["load the image · 2 MB"]


def test_a_failing_step_is_marked_and_the_error_goes_on() -> None:
    out = StringIO()
    with pytest.raises(ValueError, match="no room"), Progress(out).step("copy"):
        raise ValueError("no room")
    assert "FAILED: copy" in out.getvalue()


def test_long_steps_give_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIGN_OF_LIFE_EVERY", 0.01)
    out = StringIO()
    with Progress(out).step("build"):
        while "…" not in out.getvalue():
            pass
    assert out.getvalue().splitlines()[-1].endswith("build")
