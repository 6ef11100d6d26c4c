"""Every code a process can end with has words, and there is one place for them."""

from __future__ import annotations

import pytest

from finetune_api.exitcodes import MEANINGS, SIGKILLED, SIGTERMED, ExitCode, explain, reason

GOOD_ENDS = {ExitCode.DONE, ExitCode.STOPPED}


def test_every_code_has_words_and_no_other_number_has() -> None:
    assert MEANINGS.keys() == {*ExitCode, SIGKILLED, SIGTERMED}


@pytest.mark.parametrize("code", [int(code) for code in MEANINGS])
def test_words_are_whole(code: int) -> None:
    meaning = MEANINGS[code]
    assert meaning.what
    assert meaning.then
    assert bool(meaning.remedy) == (code not in GOOD_ENDS)
    text = explain(code)
    assert text.startswith(f"{code} ({reason(code)}): {meaning.what}")
    assert text.endswith(meaning.remedy)
    assert "|" not in text, "it stands in a table"
    assert len(text) < 300, "it stands in a status message"


def test_words_differ() -> None:
    assert len({meaning.what for meaning in MEANINGS.values()}) == len(MEANINGS)


def test_a_foreign_code_sends_to_the_log() -> None:
    assert explain(3) == "3, which is no code of a trainer: see its log"
