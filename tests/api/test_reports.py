"""Last words always fit the termination message, always parse again, and never carry control characters."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from finetune_api.reports import LastWords, Progress, clip, termination_message

AT = "2026-01-01T00:00:00Z"


@given(st.text(max_size=6000), st.text(max_size=6000))
def test_any_text_fits_4_kib_and_parses(message: str, traceback: str) -> None:
    words = LastWords(attempt=1, index=0, exit_code=70, reason="Error", message=message, traceback=traceback, at=AT)
    text = termination_message(words)
    assert len(text.encode()) <= 4096
    assert LastWords.model_validate(json.loads(text)).exit_code == 70


def test_the_end_of_a_traceback_survives() -> None:
    words = LastWords(
        attempt=1, index=0, exit_code=70, reason="Error", message="m", traceback="x" * 1900 + "ValueError: why", at=AT
    )
    assert "ValueError: why" in termination_message(words, limit=1500)


def test_the_log_tail_never_enters_the_termination_message() -> None:
    words = LastWords(
        attempt=1, index=0, exit_code=70, reason="Error", message="m", log_tail="secret-looking log", at=AT
    )
    assert "secret-looking" not in termination_message(words)


def test_clip_marks_the_cut_and_replaces_control_characters() -> None:
    assert clip("abcdef", 4) == "abc\u2026"
    assert clip("a\x1b[31mb", 10) == "a\ufffd[31mb"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_numbers_are_refused(value: float) -> None:
    with pytest.raises(ValidationError):
        Progress(attempt=1, stage="Training", loss=value, updated_at=AT)
