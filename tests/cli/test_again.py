from __future__ import annotations

from typing import Any

import pytest

from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.reports import CheckpointReport, LastWords
from finetune_cli.again import FINAL, Again, Ended, GiveUp, decide

NOW = "2026-01-01T00:00:00Z"


def spec(**more: Any) -> FineTuneJobSpec:
    base = {"model": {"uri": "file:///m"}, "data": {"train": [{"uri": "file:///d"}]}, "method": {"type": "LoRA"}}
    return FineTuneJobSpec.model_validate(base | more)


def ended(code: int, step: int = 0, micro: int | None = None) -> Ended:
    checkpoint = (
        CheckpointReport(step=step, attempt=1, uri="u", bytes=1, seconds=1.0, digest="d", at=NOW) if step else None
    )
    words = LastWords(
        attempt=1, index=0, exit_code=code, reason="R", message="what happened", checkpoint=checkpoint, at=NOW,
        micro_batch_size=micro,
    )  # fmt: skip
    return Ended(code, words)


def test_memory_halves_the_micro_batch_at_once() -> None:
    found = decide(spec(), [ended(71, micro=8)], None)
    assert isinstance(found, Again)
    assert (found.delay, found.micro_batch_size) == (0.0, 4)


def test_memory_with_one_record_is_the_end() -> None:
    assert isinstance(decide(spec(), [ended(71, micro=1)], None), GiveUp)
    assert isinstance(decide(spec(training={"onOOM": "Fail"}), [ended(71, micro=8)], None), GiveUp)


@pytest.mark.parametrize("code", sorted(FINAL))
def test_final_codes(code: ExitCode) -> None:
    assert decide(spec(), [ended(code)], None) == GiveUp(code, "what happened")


def test_failures_wait_longer_each_time_and_end() -> None:
    failures = [ended(70, step=5), ended(70, step=9), ended(70, step=12)]
    delays = [decide(spec(), failures[:n], 2) for n in (1, 2, 3)]
    assert [d.delay for d in delays if isinstance(d, Again)] == [10.0, 20.0, 40.0]
    last = decide(spec(), [*failures, ended(137, step=13)], None)
    assert isinstance(last, GiveUp)
    assert "maxRestarts is 3" in last.why


def test_no_progress_is_the_end() -> None:
    found = decide(spec(retry={"maxRestarts": 9, "noProgressLimit": 2}), [ended(74), ended(74)], None)
    assert isinstance(found, GiveUp)
    assert "2 attempts in a row committed no new step" in found.why
