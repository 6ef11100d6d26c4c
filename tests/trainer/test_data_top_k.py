"""A teacher's answers on disk: found by what a record is, refused in words when they are not this job's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from finetune_api.objective_distill import DistillSettings
from finetune_trainer.common.errors import RunError
from finetune_trainer.data.top_k import Example, Said, TopK, key_of, write
from finetune_trainer.data.top_k_header import Header, require_alike

HEADER = Header(k=2, vocabulary=9, temperature="1")


def example(*ids: int) -> Example:
    return np.array(ids, dtype=np.int32), np.arange(len(ids)) > 0


def said(count: int, start: int = 0) -> Said:
    tokens = np.arange(start, start + 2 * count, dtype=np.int32).reshape(count, 2)
    return tokens, -np.ones((count, 3), dtype=np.float32) * (1 + start)


FIRST, SECOND, THIRD = example(1, 2, 3), example(1, 2), example(7, 8, 9, 10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, 0, HEADER, [(key_of(FIRST), said(2)), (key_of(SECOND), said(1, 10))])
    write(tmp_path, 1, HEADER, [(key_of(THIRD), said(3, 20))])
    return tmp_path


@pytest.mark.parametrize(("record", "count", "start"), [(FIRST, 2, 0), (SECOND, 1, 10), (THIRD, 3, 20)])
def test_a_record_finds_its_own_answers(folder: Path, record: Example, count: int, start: int) -> None:
    answers = TopK(folder)
    assert (answers.header, len(answers)) == (HEADER, 3)
    tokens, log_probs = answers.said(record)
    expected = said(count, start)
    assert np.array_equal(tokens, expected[0])
    assert np.array_equal(log_probs, expected[1])


def test_a_record_is_its_ids_and_its_targets() -> None:
    ids, targets = FIRST
    assert key_of((ids, targets)) == key_of((ids.copy(), targets.copy()))
    assert key_of((ids, ~targets)) != key_of(FIRST)
    assert key_of((ids + 1, targets)) != key_of(FIRST)


def test_records_that_nobody_asked_about_are_counted(folder: Path) -> None:
    answers = TopK(folder)
    answers.require([FIRST, THIRD])
    with pytest.raises(RunError, match="2 of 3 records are not in it as they are encoded now") as refused:
        answers.require([FIRST, example(5, 5), example(6, 6)])
    assert (refused.value.code, refused.value.reason) == (66, "InvalidTopK")


def foreign(folder: Path) -> None:
    save_file({"x": np.zeros(1)}, folder / "top-k-00009.safetensors")


def torn(folder: Path) -> None:
    path = folder / "top-k-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def of_two(folder: Path) -> None:
    write(folder, 2, Header(k=2, vocabulary=9, temperature="2"), [(key_of(example(4, 4)), said(1))])


def none(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (foreign, "top-k-00009.safetensors cannot be read: it is no finetune-top-k/1"),
        (torn, "top-k-00001.safetensors cannot be read"),
        (of_two, "are of several sets"),
        (none, "are missing"),
    ],
)
def test_what_is_no_set_of_answers_is_refused(folder: Path, damage: Any, words: str) -> None:
    damage(folder)
    with pytest.raises(RunError, match=words):
        TopK(folder)


def test_other_tokens_and_another_temperature_are_refused() -> None:
    settings = DistillSettings.model_validate({"topK": {"uri": "s3://team-a/answers"}, "temperature": "1.0"})
    require_alike(HEADER, 9, settings)
    with pytest.raises(RunError, match="its teacher tells 9 tokens apart, the base model 10"):
        require_alike(HEADER, 10, settings)
    with pytest.raises(RunError, match=r"it was asked at temperature 1, and .* is 2; set it to the same"):
        require_alike(HEADER, 9, settings.model_copy(update={"temperature": "2"}))
